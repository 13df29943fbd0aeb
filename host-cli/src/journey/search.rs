//! Images are found by what may be known of them.
//!
//! The search key is fetched only when a blind attribute is asked for: who may not fetch it can still search by the
//! attributes in clear, and learns that, and why, otherwise. A UID may be that of the original or of the de-identified
//! image; the latter needs no key and is tried first.

use super::{Nodes, project::search_key};
use crate::{
    Error,
    config::Config,
    keystore::NodeError,
    metadata::{
        Metadata,
        policy::Policy,
        query::{Asked, Condition, Found, Query},
    },
};

/// Finds images.
///
/// # Errors
/// [`crate::metadata::query::Error`] for what cannot be asked, [`Error::ProjectKey`] when the search key is needed and cannot
/// be fetched, database errors. Also the nodes that answered wrongly are returned.
pub fn search(config: &Config, texts: &[String], limit: Option<u32>) -> Result<(Vec<Found>, Vec<NodeError>), Error> {
    let policy = Policy::load(config.policy.as_deref())?;
    let mut asked = Vec::with_capacity(texts.len());
    for text in texts {
        asked.extend(Asked::parse(text, &policy)?);
    }
    let metadata = Metadata::open(&config.metadata)?;
    let by_uid = asked.iter().any(Asked::is_uid);
    let mut needs_key = asked.iter().any(|asked| asked.needs_key() && !asked.is_uid());
    if by_uid && !needs_key {
        let found = metadata.search(&Query { conditions: conditions(&asked, None, true)?, limit })?;
        if !found.is_empty() {
            return Ok((found, Vec::new()));
        }
    }
    needs_key |= by_uid;
    if !needs_key {
        return Ok((metadata.search(&Query { conditions: conditions(&asked, None, false)?, limit })?, Vec::new()));
    }
    let mut warnings = Vec::new();
    let nodes = Nodes::open(config)?;
    let Some(key) = search_key(&nodes, &metadata, &mut warnings)? else {
        // Nothing was ever registered. What cannot be asked is refused all the same.
        return Ok((Vec::new(), warnings));
    };
    for by_name in [true, false] {
        let found = metadata.search(&Query { conditions: conditions(&asked, Some(&key), by_name)?, limit })?;
        if !found.is_empty() || !by_uid {
            return Ok((found, warnings));
        }
    }
    Ok((Vec::new(), warnings))
}

/// The conditions; UIDs as those of the de-identified image, or as those of the original.
pub(super) fn conditions(
    asked: &[Asked],
    key: Option<&crate::metadata::blind::SearchKey>,
    uids_by_name: bool,
) -> Result<Vec<Condition>, Error> {
    let condition = |asked: &Asked| match asked.by_name().filter(|_| uids_by_name) {
        Some(condition) => Ok(condition),
        None => Ok(asked.condition_with(key)?),
    };
    asked.iter().map(condition).collect()
}
