//! Opening a long log without reading all of it: from the last signed head on, and the segment that the head is in.
//!
//! What stands before that segment is held by the signed head: the stored hashes lead to it, and every segment begins
//! with a tree and ends with an entry that they have. So a missing, foreign, shortened or exchanged segment is found at
//! the opening. An altered byte in the middle of one is not: that is found by `audit verify`, which reads everything, and
//! which needs the same signed head to find it.
//!
//! Whenever something is not as it must be, everything is read, which tells what.

use std::{
    fs,
    io::{BufReader, Read, Seek, SeekFrom},
    path::Path,
};

use super::{
    hashes::HashFile,
    segment::{self, CHECK, Header},
};
use crate::{
    checkpoint::Checkpoint,
    tree::{Frontier, Nodes},
};

/// The first entry of the segment that the head of `checkpoint` is in, if everything before it is held by that head; none
/// when all must be read.
pub(super) fn start(directory: &Path, origin: &str, hashes: &HashFile, checkpoint: &Checkpoint) -> Option<u64> {
    let segments = segment::list(directory).ok()?;
    let holding = segments.iter().rposition(|(first, _)| *first <= checkpoint.size)?;
    if Frontier::of(hashes, checkpoint.size).ok()??.root() != checkpoint.root {
        return None;
    }
    let known = segments.get(..=holding)?;
    known.first().filter(|(first, _)| *first == 0)?;
    for pair in known.windows(2) {
        let [(first, path), (next, _)] = pair else { return None };
        let mut input = begun(path, origin, *first, hashes)?;
        if !ends_before(&mut input, *next, hashes)? {
            return None;
        }
    }
    let (first, path) = known.last().filter(|(first, _)| *first > 0)?;
    begun(path, origin, *first, hashes).map(|_| *first)
}

/// A segment, if it begins where its name says, with the tree of the stored hashes.
fn begun(path: &Path, origin: &str, first: u64, hashes: &HashFile) -> Option<BufReader<fs::File>> {
    let mut input = BufReader::with_capacity(4_096, fs::File::open(path).ok()?);
    let (header, _) = Header::read(&mut input).ok()?;
    let tree = Frontier::of(hashes, first).ok()??;
    (header.origin == origin && header.before == tree).then_some(input)
}

/// Whether the last record of a segment is of the entry before `next`.
fn ends_before(input: &mut (impl Read + Seek), next: u64, hashes: &HashFile) -> Option<bool> {
    let mut found = [0; CHECK];
    input.seek(SeekFrom::End(-i64::try_from(CHECK).ok()?)).ok()?;
    input.read_exact(&mut found).ok()?;
    Some(found == segment::check(&hashes.node(0, next.checked_sub(1)?).ok()?))
}

#[cfg(test)]
mod tests;
