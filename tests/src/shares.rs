//! Keys that are registered and fetched through the client library, without files: many of them in little time.

use eds::{
    config::Config,
    journey::Nodes,
    keystore::{Evidence, NewKey, Terms, Want},
};

use crate::{Outcome, Trouble, user::User};

/// The nodes as this user sees them.
///
/// # Errors
/// When the user's settings or cluster directory cannot be used.
pub fn nodes(user: &User) -> Outcome<Nodes> {
    Ok(Nodes::open(&Config::load(Some(user.config()))?)?)
}

/// Registers a key and says what is wanted to fetch it, and its secret.
///
/// # Errors
/// When it was not acknowledged.
pub fn register(nodes: &Nodes) -> Outcome<(Want, [u8; 32])> {
    register_many(nodes, 1)?.pop().ok_or_else(|| Trouble::new("no key"))
}

/// Registers so many keys in one call.
///
/// # Errors
/// When they were not acknowledged.
pub fn register_many(nodes: &Nodes, count: usize) -> Outcome<Vec<(Want, [u8; 32])>> {
    let new: Vec<NewKey> = (0..count).map(|_| NewKey::random()).collect();
    let secrets: Vec<_> = new.iter().map(|new| (new.id, *new.secret.input_key("test", new.id).as_bytes())).collect();
    let prepared = nodes.keystore().prepare(&new, Terms::default()).map_err(|error| Trouble::new(error.to_string()))?;
    let want = |(id, secret)| {
        let anchor = prepared.manifest(id).ok_or_else(|| Trouble::new("no manifest"))?.anchor();
        Ok((Want { key: id, evidence: Evidence::Anchor(anchor) }, secret))
    };
    let wanted = secrets.into_iter().map(want).collect::<Outcome<_>>()?;
    nodes.register(prepared)?;
    Ok(wanted)
}

/// Fetches a key's secret.
///
/// # Errors
/// When it cannot be had.
pub fn fetch(nodes: &Nodes, want: &Want) -> Outcome<[u8; 32]> {
    let (secrets, _) = nodes.fetch_all(std::slice::from_ref(want))?;
    let fetched = secrets.first().ok_or_else(|| Trouble::new("no secret"))?;
    Ok(*fetched.secret.input_key("test", want.key).as_bytes())
}

/// Fetches all of these, and compares.
///
/// # Errors
/// When one cannot be had, or is another.
pub fn fetch_all(nodes: &Nodes, keys: &[(Want, [u8; 32])]) -> Outcome {
    for part in keys.chunks(1_000) {
        let wants: Vec<Want> = part.iter().map(|(want, _)| want.clone()).collect();
        let (secrets, _) = nodes.fetch_all(&wants)?;
        for ((want, secret), found) in part.iter().zip(&secrets) {
            if found.secret.input_key("test", want.key).as_bytes() != secret {
                crate::give_up!("key {} has another secret", want.key);
            }
        }
        if secrets.len() != part.len() {
            crate::give_up!("{} secrets of {} keys", secrets.len(), part.len());
        }
    }
    Ok(())
}
