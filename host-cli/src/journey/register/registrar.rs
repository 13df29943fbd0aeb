//! Registers what arrives over time, each object for itself: what the gateway stores for its peers.
//!
//! An object is registered, with all that this means, before the next is looked at; the keys of series and studies that
//! were met are kept meanwhile.

use std::{
    io::{Read, Seek},
    path::Path,
};

use super::{
    Clock, Event, Options, Recovered, Summary,
    commit::{self, Batch},
    keys::Keys,
    prepare::Prepared,
    recover,
    run::Run,
    walk::Source,
};
use crate::{
    Error,
    journey::{Session, project::ProjectKeys},
    keystore::NodeError,
};

/// Registers objects for as long as it lives.
pub struct Registrar<'a> {
    session: &'a Session,
    options: &'a Options,
    project: ProjectKeys,
    keys: Keys<'a>,
    clock: Clock,
    run: Run,
}

impl<'a> Registrar<'a> {
    /// Begins; what interrupted runs left is cleared up first.
    ///
    /// # Errors
    /// Key servers or databases that cannot be used.
    pub fn open(
        session: &'a Session,
        options: &'a Options,
        warnings: &mut Vec<NodeError>,
    ) -> Result<(Self, Recovered), Error> {
        let terms = options.terms(session);
        let (recovered, unsettled) = recover::recover(session, warnings)?;
        let project = ProjectKeys::open(&session.nodes, &session.metadata, terms, warnings)?;
        unsettled.settle(session, warnings)?;
        let keys = Keys::new(&session.nodes, &session.metadata, terms, options.scope);
        let run = Run::begin(&session.runs)?;
        Ok((Self { session, options, project, keys, clock: Clock::default(), run }, recovered))
    }

    /// Registers one object; `name` is for display. When this returns [`Event::Registered`], container, metadata and catalog
    /// are durable and as many key servers as wanted hold the shares; the summary tells of the others.
    ///
    /// # Errors
    /// What keeps further objects from being registered as well.
    pub fn register<R: Read + Seek + Send>(
        &self,
        name: &Path,
        size: u64,
        input: &mut R,
    ) -> Result<(Event, Summary), Error> {
        let preparer = self.options.preparer(self.session, &self.project, &self.keys, &self.clock, &self.run);
        let source = Source { path: name.into(), named: false, size };
        let mut summary = Summary::default();
        let item = match preparer.prepare_from(&source, input) {
            Prepared::Sealed(item) => *item,
            other => return Ok((other.into_event(source), summary)),
        };
        let mut batch = Batch::default();
        batch.push(item);
        let mut told = None;
        commit::commit(self.session, &preparer, batch, &mut summary, &mut |event| {
            told = Some(event);
            Ok(())
        })?;
        Ok((told.ok_or(Error::NothingFetched)?, summary))
    }
}
