//! One conformance suite for every cipher, the published vectors with modified twins, and the properties of sealer and
//! openers.

use std::{format, vec, vec::Vec};

use proptest::prelude::*;

use super::{
    geometry::{CHUNK, Geometry, SEALED_CHUNK},
    soft::SoftCipher,
    *,
};

mod conformance;
mod vectors;

const KEY: InputKey = InputKey::from_bytes([0x42; 32]);
const SALT_BYTES: [u8; SALT] = [0x17; SALT];

fn message(length: usize) -> Vec<u8> {
    (0..length).map(|position| (position * 31 + position / 256) as u8).collect()
}

/// Seals with the streaming sealer in pieces of these lengths, again and again.
fn seal_streaming(plain: &[u8], salt: [u8; SALT], context: &[u8], key: &InputKey, pieces: &[usize]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut sink = |bytes: &[u8]| {
        out.extend_from_slice(bytes);
        Ok::<(), Error>(())
    };
    let engine = |key: &[u8; 32]| Ok(SoftCipher::with_key(key));
    let mut sealer = Sealer::danger_begin_with_salt(engine, key, context, salt, &mut sink).expect("begins");
    let mut rest = plain;
    for (turn, length) in pieces.iter().cycle().enumerate() {
        if rest.is_empty() {
            break;
        }
        let (piece, after) = rest.split_at((*length).min(rest.len()));
        if turn % 2 == 0 {
            sealer.write(piece, &mut sink).expect("writes");
        } else {
            sealer.write_in_place(&mut piece.to_vec(), &mut sink).expect("writes");
        }
        rest = after;
    }
    let sealed = sealer.finish(&mut sink).expect("finishes");
    assert_eq!(sealed.geometry.plain_len(), plain.len() as u64);
    assert_eq!(sealed.geometry.sealed_len(), out.len() as u64);
    assert_eq!(sealed.start.to_bytes(), out[..Start::LEN]);
    out
}

/// Seals chunk by chunk.
fn seal_chunks<C: ChunkCipher>(plain: &[u8], salt: [u8; SALT], context: &[u8], key: &InputKey) -> Vec<u8> {
    let (sealer, mut tickets) = ChunkSealer::<C>::danger_begin_with_salt(key, context, salt).expect("begins");
    let mut out = sealer.start().to_bytes().to_vec();
    let chunks = plain.chunks_exact(CHUNK);
    let mut last = chunks.remainder().to_vec();
    for (index, chunk) in chunks.enumerate() {
        let mut chunk = chunk.to_vec();
        let ticket = tickets.take().expect("below the limit");
        assert_eq!(ticket.index(), index as u64);
        let tag = sealer.seal(ticket, &mut chunk).expect("seals");
        out.extend_from_slice(&chunk);
        out.extend_from_slice(&tag);
    }
    let tag = sealer.seal_final(tickets.finish().expect("a last one"), &mut last).expect("seals");
    out.extend_from_slice(&last);
    out.extend_from_slice(&tag);
    out
}

/// Opens as from a pipe: what was released, and how it ended.
fn open_pipe<C: ChunkCipher>(sealed: &[u8], context: &[u8], key: &InputKey) -> (Vec<u8>, Result<Geometry, Error>) {
    let mut released = Vec::new();
    let Some((start, body)) = sealed.split_first_chunk::<{ Start::LEN }>() else {
        return (released, Err(Error::Truncated));
    };
    let mut opener = match SequentialOpener::<C>::new(key, context, &Start::from_bytes(start)) {
        Ok(opener) => opener,
        Err(error) => return (released, Err(error.into())),
    };
    for chunk in body.chunks(SEALED_CHUNK) {
        match opener.open_next(&mut chunk.to_vec()) {
            Ok(plain) => released.extend_from_slice(plain),
            Err(error) => return (released, Err(error)),
        }
    }
    (released, opener.finish())
}

/// Opens as from a file: length first, last chunk first, nothing released unless all is well.
fn open_file<C: ChunkCipher>(sealed: &[u8], context: &[u8], key: &InputKey) -> Result<Vec<u8>, Error> {
    let layout = Geometry::of_sealed(sealed.len() as u64)?;
    let (start, _) = sealed.split_first_chunk::<{ Start::LEN }>().ok_or(Error::Truncated)?;
    let opener = Opener::<C>::new(key, context, &Start::from_bytes(start))?;
    let bytes = |index| {
        let range = layout.sealed_range(index).expect("there is such a chunk");
        sealed[range.start as usize..range.end as usize].to_vec()
    };
    opener.open_last(layout, &mut bytes(layout.last()))?;
    let mut plain = Vec::new();
    for index in 0..layout.chunks() {
        plain.extend_from_slice(opener.open(index, &mut bytes(index))?);
    }
    Ok(plain)
}

#[test]
fn an_input_key_does_not_print_and_has_one_length() {
    assert_eq!(format!("{KEY:?}"), "InputKey(<redacted>)");
    for length in [0, 31, 33] {
        assert!(InputKey::try_from(&vec![0; length][..]).is_err());
    }
}

#[test]
fn truncation_around_every_chunk_boundary_is_noticed() {
    for length in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK] {
        let plain = message(length);
        let sealed = seal_streaming(&plain, SALT_BYTES, b"", &KEY, &[1000]);
        for boundary in [0, 24, 56, 72, 56 + SEALED_CHUNK, 72 + SEALED_CHUNK, 56 + 2 * SEALED_CHUNK, sealed.len()] {
            for end in boundary.saturating_sub(18)..(boundary + 18).min(sealed.len()) {
                assert!(open_file::<SoftCipher>(&sealed[..end], b"", &KEY).is_err(), "{length} bytes cut at {end}");
                let (released, result) = open_pipe::<SoftCipher>(&sealed[..end], b"", &KEY);
                assert!(result.is_err(), "{length} bytes cut at {end}");
                assert!(plain.starts_with(&released) && released.len() % CHUNK == 0);
            }
        }
    }
}

#[test]
fn swapped_doubled_dropped_and_appended_chunks_are_noticed() {
    let plain = message(3 * CHUNK + 100);
    let sealed = seal_streaming(&plain, SALT_BYTES, b"", &KEY, &[4096]);
    let (start, body) = sealed.split_at(Start::LEN);
    let chunks: Vec<&[u8]> = body.chunks(SEALED_CHUNK).collect();
    let order = |order: &[usize]| {
        let mut bytes = start.to_vec();
        order.iter().for_each(|index| bytes.extend_from_slice(chunks[*index]));
        bytes
    };
    assert_eq!(open_file::<SoftCipher>(&order(&[0, 1, 2, 3]), b"", &KEY).as_ref(), Ok(&plain));
    for wrong in
        [&[1, 0, 2, 3][..], &[0, 0, 2, 3], &[0, 1, 3], &[1, 2, 3], &[0, 1, 2], &[3], &[0, 1, 2, 3, 3], &[0, 1, 2, 2, 3]]
    {
        assert!(open_file::<SoftCipher>(&order(wrong), b"", &KEY).is_err(), "{wrong:?}");
        assert!(open_pipe::<SoftCipher>(&order(wrong), b"", &KEY).1.is_err(), "{wrong:?}");
    }
    for extra in [1, 15, 16, 17, SEALED_CHUNK] {
        let longer = [&sealed[..], &vec![0; extra]].concat();
        assert!(open_file::<SoftCipher>(&longer, b"", &KEY).is_err(), "{extra} bytes appended");
        assert!(open_pipe::<SoftCipher>(&longer, b"", &KEY).1.is_err(), "{extra} bytes appended");
    }
}

#[test]
fn a_finished_sequence_takes_no_more_chunks() {
    let sealed = seal_streaming(b"short", SALT_BYTES, b"", &KEY, &[5]);
    let (start, chunk) = sealed.split_first_chunk().expect("long enough");
    let mut opener = SequentialOpener::<SoftCipher>::new(&KEY, b"", &Start::from_bytes(start)).expect("fits");
    assert!(!opener.ended());
    assert_eq!(opener.open_next(&mut chunk.to_vec()).expect("opens"), b"short");
    assert!(opener.ended());
    assert_eq!(opener.open_next(&mut chunk.to_vec()), Err(Error::TrailingBytes));
    assert_eq!(opener.finish().map(Geometry::plain_len), Ok(5));
}

#[test]
fn chunk_lengths_and_numbers_out_of_range_are_refused() {
    let sealed = seal_streaming(b"short", SALT_BYTES, b"", &KEY, &[5]);
    let (start, chunk) = sealed.split_first_chunk().expect("long enough");
    let opener = Opener::<SoftCipher>::new(&KEY, b"", &Start::from_bytes(start)).expect("fits");
    assert_eq!(opener.open(0, &mut [0; 15]), Err(Error::Truncated));
    assert_eq!(opener.open(0, &mut vec![0; SEALED_CHUNK + 1]), Err(Error::TooLong));
    assert_eq!(opener.open(geometry::MAX_CHUNKS, &mut chunk.to_vec()), Err(Error::TooLong));
    assert_eq!(opener.open(u64::MAX, &mut chunk.to_vec()), Err(Error::TooLong));
    assert_eq!(opener.open(geometry::MAX_CHUNKS - 1, &mut vec![0; SEALED_CHUNK]), Err(Error::TooLong));
    assert_eq!(opener.open(geometry::MAX_CHUNKS - 1, &mut chunk.to_vec()), Err(Error::Rejected));
    let other = Geometry::of_plain(6).expect("in range");
    assert_eq!(opener.open_last(other, &mut chunk.to_vec()), Err(Error::Mismatch));

    let (sealer, mut tickets) =
        ChunkSealer::<SoftCipher>::danger_begin_with_salt(&KEY, b"", SALT_BYTES).expect("begins");
    for length in [0, CHUNK - 1, CHUNK + 1] {
        let ticket = tickets.take().expect("below the limit");
        assert_eq!(sealer.seal(ticket, &mut vec![0; length]), Err(Error::OutOfRange));
    }
    let last = tickets.finish().expect("a last one");
    assert_eq!(sealer.seal_final(last, &mut vec![0; CHUNK]), Err(Error::OutOfRange));
}

#[test]
fn a_failed_sink_spends_the_sealer() {
    let engine = |key: &[u8; 32]| Ok(SoftCipher::with_key(key));
    let mut good = |_: &[u8]| Ok::<(), Error>(());
    let mut bad = |_: &[u8]| Err::<(), Error>(Error::BufferTooSmall);
    let mut sealer = Sealer::danger_begin_with_salt(engine, &KEY, b"", SALT_BYTES, &mut good).expect("begins");
    assert_eq!(sealer.write(b"lost", &mut bad), Err(Error::BufferTooSmall));
    assert_eq!(sealer.write(b"more", &mut good), Err(Error::Spent));
    assert_eq!(sealer.finish(&mut good), Err(Error::Spent));
}

#[test]
fn a_slice_that_is_too_small_costs_nothing() {
    let mut out = Vec::new();
    let mut sink = |bytes: &[u8]| {
        out.extend_from_slice(bytes);
        Ok::<(), Error>(())
    };
    let engine = |key: &[u8; 32]| Ok(SoftCipher::with_key(key));
    let mut sealer = Sealer::danger_begin_with_salt(engine, &KEY, b"", SALT_BYTES, &mut sink).expect("begins");
    let plain = message(CHUNK + 5);
    assert_eq!(sealer.output_len(plain.len()), plain.len() + TAG);
    let mut buffer = vec![0; plain.len() + TAG];
    assert_eq!(sealer.write_to_slice(&plain, &mut buffer[1..]), Err(Error::BufferTooSmall));
    assert_eq!(sealer.write_to_slice(&plain, &mut buffer), Ok(plain.len() + TAG));
    sink(&buffer).expect("a vector takes all");
    sealer.finish(&mut sink).expect("finishes");
    assert_eq!(open_file::<SoftCipher>(&out, b"", &KEY), Ok(plain));
}

#[test]
fn two_messages_differ_in_salt_key_and_bytes() {
    let seal = || {
        let mut out = Vec::new();
        let mut sink = |bytes: &[u8]| {
            out.extend_from_slice(bytes);
            Ok::<(), Error>(())
        };
        let mut rng = rand_core::UnwrapErr(getrandom::SysRng);
        let mut sealer = Sealer::begin(&KEY, b"", &mut rng, &mut sink).expect("begins");
        sealer.write(b"the same", &mut sink).expect("writes");
        sealer.finish(&mut sink).expect("finishes");
        out
    };
    let (one, two) = (seal(), seal());
    for part in [0..24, 24..56, 56..64] {
        assert_ne!(one[part.clone()], two[part]);
    }
    assert_eq!(open_file::<SoftCipher>(&one, b"", &KEY), Ok(b"the same".to_vec()));
    assert_eq!(open_file::<SoftCipher>(&two, b"", &KEY), Ok(b"the same".to_vec()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn pieces_of_any_size_make_the_same_bytes(
        length in prop_oneof![0..200usize, CHUNK - 20..CHUNK + 20, 2 * CHUNK - 20..2 * CHUNK + 300],
        pieces in prop::collection::vec(prop_oneof![1..40usize, 1..5000usize, CHUNK - 3..CHUNK + 3], 1..8),
        context in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let plain = message(length);
        let sealed = seal_streaming(&plain, SALT_BYTES, &context, &KEY, &pieces);
        prop_assert_eq!(&sealed, &seal_chunks::<SoftCipher>(&plain, SALT_BYTES, &context, &KEY));
        #[cfg(feature = "aws-lc-rs")]
        prop_assert_eq!(&sealed, &seal_chunks::<aws_lc::AwsLcCipher>(&plain, SALT_BYTES, &context, &KEY));
        prop_assert_eq!(open_file::<SoftCipher>(&sealed, &context, &KEY), Ok(plain));
    }

    #[test]
    fn one_changed_bit_releases_nothing_beyond_the_chunks_before(
        length in 0..2 * CHUNK + 100, place in any::<prop::sample::Index>(), bit in 0..8u8,
    ) {
        let plain = message(length);
        let mut sealed = seal_chunks::<SoftCipher>(&plain, SALT_BYTES, b"", &KEY);
        let place = place.index(sealed.len());
        sealed[place] ^= 1 << bit;
        prop_assert!(open_file::<SoftCipher>(&sealed, b"", &KEY).is_err());
        let (released, result) = open_pipe::<SoftCipher>(&sealed, b"", &KEY);
        prop_assert!(result.is_err());
        let before = place.saturating_sub(Start::LEN) / SEALED_CHUNK * CHUNK;
        prop_assert_eq!(released, &plain[..before.min(length)]);
    }

    #[test]
    fn arbitrary_bytes_never_open(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(open_file::<SoftCipher>(&bytes, b"", &KEY).is_err());
        prop_assert!(open_pipe::<SoftCipher>(&bytes, b"", &KEY).1.is_err());
    }
}
