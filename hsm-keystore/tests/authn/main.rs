//! Who is asking: every rule by which a caller is accepted or refused has a test here.

mod chain;
#[expect(dead_code, reason = "shared with the tests of the server, which need a little more")]
mod forge;
mod jwt;
mod mutation;
mod names;
mod proxies;
mod trust;
mod voms;
mod voms_tools;
