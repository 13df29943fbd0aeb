//! What the tests share: certificates, tokens, a node in this process and keys as a client makes them.

pub(crate) mod disk;
pub(crate) mod keys;
pub(crate) mod node;
pub(crate) mod pki;
pub(crate) mod softhsm;
