//! One whole recording: container into the storage, entry into the catalog, shares to the key servers. Every step finds what an
//! earlier try did, and goes on.

use std::{
    fs::File,
    io::{self, BufReader, BufWriter, Read},
    path::Path,
    time::SystemTime,
};

use eds_core::{
    cipher::geometry::Geometry,
    container::{MAX_OPENING, Opening},
    ids::Threshold,
    link::{Begin, Bundle, Event, Packet, Reader, Receiver},
};

use super::{Error, spool::Whole};
use crate::{
    catalog::{Catalog, Content, Entry, NO_RUN, State},
    config::Config,
    journey::Nodes,
    keystore::{NodeError, Quorum},
    storage::{self, NewObject, ObjectName, ObjectStore},
};

/// What carries: key servers, storage and catalog.
pub struct Carrier {
    nodes: Nodes,
    storage: Box<dyn ObjectStore>,
    catalog: Catalog,
    quorum: Quorum,
}

/// An image that is where it belongs.
#[derive(Debug)]
pub struct Carried {
    /// What the device said of it.
    pub begin: Begin,
    /// How many of how many key servers open it.
    pub threshold: Threshold,
    /// Key servers whose share waits in the queue.
    pub late: Vec<NodeError>,
    /// Key servers that hold it and could not be told that enough others do.
    pub unconfirmed: Vec<NodeError>,
}

impl Carrier {
    /// Opens the rooms that the configuration names.
    ///
    /// # Errors
    /// As [`Nodes::open`], and what storage or catalog fail with.
    pub fn open(config: &Config, quorum: Quorum) -> Result<Self, crate::Error> {
        Ok(Self {
            nodes: Nodes::open(config)?,
            storage: config.storage.first().open()?,
            catalog: Catalog::open(&config.catalog)?,
            quorum,
        })
    }

    /// Carries a whole recording to its end.
    ///
    /// # Errors
    /// [`Error`] of what came; what storage, catalog, queue or key servers failed with: it can be done again.
    pub fn carry(&mut self, recording: &Whole) -> Result<Carried, crate::Error> {
        let begin = recording.begin;
        let (device, key, file) = (begin.device, begin.key, begin.file);
        let name = ObjectName::of(file);
        let object = match self.storage.create(&name) {
            Ok(object) => Some(object),
            // An earlier try came so far.
            Err(storage::Error::Exists { .. }) => None,
            Err(error) => return Err(error.into()),
        };
        let mut known = if object.is_none() { Some(self.storage.open(&name)?) } else { None };
        let (bundle, start, length) = match (&object, &mut known) {
            (Some(object), _) => unpack(&recording.path, begin, &mut BufWriter::new(object.file()))?,
            (None, Some(known)) => {
                let mut same = Same { with: BufReader::new(known), differs: false };
                let unpacked = unpack(&recording.path, begin, &mut same)?;
                if same.differs || !same.ended().map_err(|source| storage::Error::Io { name, source })? {
                    return Err(Error::OtherContainer { file }.into());
                }
                unpacked
            }
            (None, None) => return Err(Error::Ended.into()),
        };
        let bundle = Bundle::parse(&bundle).map_err(|source| Error::Bundle { device, key, source })?;
        let malformed = |source| Error::Container { device, file, source };
        let opening = Opening::parse(&start).map_err(malformed)?;
        bundle.check(&begin, opening.header()).map_err(|_| Error::Exchanged { device, key })?;
        let ciphertext = length.saturating_sub(opening.ciphertext_offset() as u64);
        let geometry = Geometry::of_sealed(ciphertext).map_err(malformed)?;
        if let Some(object) = object {
            finish(object)?;
        }

        self.record(entry(begin, &bundle, &opening, geometry, length))?;
        let registered = self.nodes.deliver_bundle(&bundle, self.quorum)?;
        self.catalog.complete(&[file])?;
        let threshold = bundle.manifest().threshold;
        Ok(Carried { begin, threshold, late: registered.late, unconfirmed: registered.unconfirmed })
    }

    /// Delivers what waits for key servers that are back, as far as that is soon done.
    pub fn deliver_in_passing(&self) {
        // What cannot be delivered now is in the queue still, with the reason.
        let _ = self.nodes.deliver_in_passing(&[]);
    }

    /// Puts an entry into the catalog, unless it is there.
    fn record(&self, entry: Entry) -> Result<(), crate::Error> {
        match self.catalog.begin(std::slice::from_ref(&entry)) {
            Err(crate::database::Error::Duplicate { .. }) => {
                let before = self.catalog.entry(entry.file)?;
                let same = Entry { created: entry.created, state: entry.state, ..before } == entry;
                if same { Ok(()) } else { Err(Error::OtherEntry { file: entry.file }.into()) }
            }
            other => Ok(other?),
        }
    }
}

fn entry(begin: Begin, bundle: &Bundle<'_>, opening: &Opening, geometry: Geometry, length: u64) -> Entry {
    let start = opening.fingerprint().start;
    Entry {
        file: begin.file,
        content: Content::Opaque,
        key: begin.key,
        object: ObjectName::of(begin.file),
        plain_size: geometry.plain_len(),
        stored_size: length,
        salt: start.salt,
        commitment: start.commitment,
        anchor: opening.header().anchor,
        manifest: bundle.manifest_bytes().to_vec(),
        state: State::Pending,
        created: SystemTime::now(),
        private_part: None,
        private_key: None,
        run: NO_RUN,
    }
}

/// An object that another try put there meanwhile is the same one.
fn finish(object: Box<dyn NewObject>) -> Result<(), storage::Error> {
    match object.finish() {
        Err(storage::Error::Exists { .. }) => Ok(()),
        other => other,
    }
}

/// What a recording holds: the bundle, the start of the container, and its length. The container goes to `sink`.
type Unpacked = (Vec<u8>, Vec<u8>, u64);

fn unpack(path: &Path, begin: Begin, sink: &mut dyn io::Write) -> Result<Unpacked, crate::Error> {
    let unreadable = |source| Error::Spool { path: path.to_owned(), source };
    let damaged = || Error::Damaged { key: begin.key };
    let mut recording = BufReader::new(File::open(path).map_err(unreadable)?);
    let (mut reader, mut receiver) = (Reader::new(), Receiver::new());
    let (mut bundle, mut start, mut length) = (Vec::new(), Vec::new(), 0u64);
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = recording.read(&mut buffer).map_err(unreadable)?;
        if read == 0 {
            break;
        }
        for byte in buffer.get(..read).unwrap_or_default() {
            let Some(packet) = reader.push(*byte) else { continue };
            let packet: Packet<'_> = packet.map_err(|_| damaged())?;
            let (event, _) = receiver.take(&packet).map_err(|_| damaged())?;
            match event {
                Event::Bundle(bytes) => bundle.extend_from_slice(bytes),
                Event::Container(bytes) => {
                    let missing = MAX_OPENING.saturating_sub(start.len()).min(bytes.len());
                    start.extend_from_slice(bytes.get(..missing).unwrap_or_default());
                    length = length.saturating_add(bytes.len() as u64);
                    sink.write_all(bytes)
                        .map_err(|source| storage::Error::Io { name: ObjectName::of(begin.file), source })?;
                }
                _ => {}
            }
        }
    }
    sink.flush().map_err(|source| storage::Error::Io { name: ObjectName::of(begin.file), source })?;
    match receiver.complete() {
        Some((whole, ..)) if whole == begin => Ok((bundle, start, length)),
        _ => Err(damaged().into()),
    }
}

/// Compares what is written with what is there.
struct Same<R> {
    with: R,
    differs: bool,
}

impl<R: Read> Same<R> {
    /// Whether nothing is there beyond what was written.
    fn ended(&mut self) -> io::Result<bool> {
        Ok(self.with.read(&mut [0])? == 0)
    }
}

impl<R: Read> io::Write for Same<R> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut there = vec![0; bytes.len()];
        match self.with.read_exact(&mut there) {
            Ok(()) => self.differs |= there != bytes,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => self.differs = true,
            Err(error) => return Err(error),
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
