//! Sealing end to end: interop with the `hpke` crate both ways, every changed byte, wrong keys, lists.

use std::{vec, vec::Vec};

use ::hpke::{Deserializable, OpModeR, OpModeS, Serializable, aead::AesGcm256, kdf::HkdfSha256, kem::DhP256HkdfSha256};

use super::*;
use crate::{
    Error,
    counter_rng::CounterRng,
    ids::{ClusterId, Epoch, KeyId, NodeId, ShareIndex},
    sharing::{Share, ShareRecord},
};

fn info() -> Info {
    Info::share(ClusterId::from_bytes([1; 16]), NodeId::from_bytes([2; 16]))
}

fn key(label: &str) -> SoftDhKey {
    SoftDhKey::generate(&mut CounterRng::new(label))
}

fn sealed(recipient: &SoftDhKey, plaintext: &[u8]) -> Vec<u8> {
    seal_vec(key("one-time"), &info(), b"aad", recipient.public(), plaintext).expect("seals")
}

#[test]
fn a_message_opens_for_its_recipient_only() {
    let recipient = key("recipient");
    for length in [0, 1, 86, 5000] {
        let plaintext = vec![7; length];
        let message = sealed(&recipient, &plaintext);
        assert_eq!(message.len(), length + OVERHEAD);
        let opened =
            |key: &SoftDhKey, info: &Info, aad: &[u8]| open_vec(key, info, aad, &message).map(|text| text.to_vec());
        let refused = Err(SealingError::Message(Error::Rejected));
        assert_eq!(opened(&recipient, &info(), b"aad"), Ok(plaintext.clone()));
        assert_eq!(opened(&key("somebody else"), &info(), b"aad"), refused);
        assert_eq!(opened(&recipient, &info(), b"another"), refused);
        let (cluster, node) = (ClusterId::from_bytes([1; 16]), NodeId::from_bytes([2; 16]));
        assert_eq!(opened(&recipient, &Info::answer(cluster, node), b"aad"), refused);
        let other_node = Info::share(cluster, NodeId::from_bytes([3; 16]));
        assert_eq!(opened(&recipient, &other_node, b"aad"), refused);
        let other_cluster = Info::share(ClusterId::from_bytes([3; 16]), node);
        assert_eq!(opened(&recipient, &other_cluster, b"aad"), refused);
    }
}

#[test]
fn every_changed_byte_and_every_cut_is_refused() {
    let recipient = key("recipient");
    let message = sealed(&recipient, &[7; 100]);
    let mut out = [0u8; 200];
    for position in 0..message.len() {
        let mut changed = message.clone();
        changed[position] ^= 1;
        out.fill(0);
        assert!(open(&recipient, &info(), b"aad", &changed, &mut out).is_err(), "byte {position}");
        assert!(out.iter().all(|byte| *byte == 0), "something of the plaintext is left after byte {position}");
        assert!(open(&recipient, &info(), b"aad", &message[..position], &mut out).is_err(), "cut at {position}");
    }
    assert!(open(&recipient, &info(), b"aad", &[&message[..], &[0]].concat(), &mut out).is_err(), "one byte more");
}

#[test]
fn what_is_wrong_with_the_format_is_said() {
    let message = sealed(&key("recipient"), b"text");
    let with = |position: usize, byte| {
        let mut changed = message.clone();
        changed[position] = byte;
        SealedMessage::parse(&changed).map(|_| ())
    };
    assert_eq!(with(0, 2), Err(Error::UnknownVersion(2)));
    assert_eq!(with(1, 2), Err(Error::UnknownSuite(2)));
    assert_eq!(with(3, 2), Err(Error::Malformed), "a compressed tag on 65 bytes");
    assert_eq!(with(67, message[67] ^ 1), Err(Error::Malformed), "not on the curve");
    assert_eq!(SealedMessage::parse(&message[..OVERHEAD - 1]), Err(Error::Truncated));
    let short = open(&key("recipient"), &info(), b"aad", &message, &mut [0; 3]).map(|_| ());
    assert_eq!(short, Err(SealingError::Message(Error::BufferTooSmall)));
    let mut out = [0; OVERHEAD + 3];
    let recipient = key("recipient");
    let full = seal(&info(), b"", recipient.public(), b"text", &mut CounterRng::new("x"), &mut out).map(|_| ());
    assert_eq!(full, Err(Error::BufferTooSmall));
}

#[test]
fn no_key_ever_sees_a_point_off_the_curve() {
    struct Token(SoftDhKey);
    impl DhKey for Token {
        type Error = &'static str;
        fn public_key(&self) -> [u8; 65] {
            self.0.public_key()
        }
        fn dh(&self, peer: &[u8; 65]) -> Result<DhSecret, &'static str> {
            assert!(PublicKey::from_sec1(peer).is_ok(), "asked with a bad point");
            Err("the token is gone")
        }
    }
    let token = Token(key("recipient"));
    let message = sealed(&token.0, b"text");
    assert_eq!(open_vec(&token, &info(), b"aad", &message), Err(SealingError::Key("the token is gone")));
    for position in 4..68 {
        let mut changed = message.clone();
        changed[position] ^= 1;
        let refused = open_vec(&token, &info(), b"aad", &changed);
        assert_eq!(refused, Err(SealingError::Message(Error::Malformed)), "byte {position}");
    }
    for bad in [&[0u8; 65][..], &[4; 65], &[0], &[], &[5; 33], &[2; 32]] {
        assert_eq!(PublicKey::from_sec1(bad), Err(Error::Malformed), "{bad:?}");
    }
}

#[test]
fn both_forms_of_a_public_key_are_one_key() {
    let public = *key("recipient").public();
    assert_eq!(PublicKey::try_from(&public.compressed()), Ok(public));
    assert_eq!(PublicKey::from_sec1(public.as_bytes()), Ok(public));
}

#[test]
fn the_steps_may_be_taken_apart() {
    let recipient = key("recipient");
    let bytes = sealed(&recipient, b"in the token");
    let message = SealedMessage::parse(&bytes).expect("well formed");
    let dh = recipient.dh(message.peer()).expect("has the key");
    let mut out = vec![0; message.plaintext_len()];
    let opened = message.open_with_dh(&dh, &recipient.public_key(), &info(), b"aad", &mut out);
    assert_eq!(opened.expect("opens"), b"in the token");
}

#[test]
fn the_hpke_crate_opens_what_is_sealed_here() {
    let recipient = key("recipient");
    let message = sealed(&recipient, b"to the other implementation");
    let private = <DhP256HkdfSha256 as ::hpke::Kem>::PrivateKey::from_bytes(&*recipient.to_bytes()).expect("a key");
    let enc = <DhP256HkdfSha256 as ::hpke::Kem>::EncappedKey::from_bytes(&message[3..68]).expect("a point");
    let opened = ::hpke::single_shot_open::<AesGcm256, HkdfSha256, DhP256HkdfSha256>(
        &OpModeR::Base,
        &private,
        &enc,
        info().as_bytes(),
        &message[68..],
        b"aad",
    );
    assert_eq!(opened.expect("opens"), b"to the other implementation");
}

#[test]
fn what_the_hpke_crate_seals_is_opened_here() {
    let recipient = key("recipient");
    let public =
        <DhP256HkdfSha256 as ::hpke::Kem>::PublicKey::from_bytes(recipient.public().as_bytes()).expect("a point");
    let (enc, ciphertext) = ::hpke::single_shot_seal_with_rng::<AesGcm256, HkdfSha256, DhP256HkdfSha256>(
        &OpModeS::Base,
        &public,
        info().as_bytes(),
        b"from the other implementation",
        b"aad",
        &mut CounterRng::new("theirs"),
    )
    .expect("seals");
    let message = [&[1, 1, 0], &enc.to_bytes()[..], &ciphertext].concat();
    let opened = open_vec(&recipient, &info(), b"aad", &message).expect("opens");
    assert_eq!(&opened[..], b"from the other implementation");
}

#[cfg(feature = "aws-lc-rs")]
#[test]
fn the_fast_key_does_the_same_as_the_portable_one() {
    let (fast, soft) = (AwsLcDhKey::generate().expect("a key"), key("portable"));
    let one = fast.dh(&soft.public_key()).expect("agrees");
    let two = soft.dh(&fast.public_key()).expect("agrees");
    assert_eq!(one.as_bytes(), two.as_bytes());
    assert!(fast.dh(&[4; 65]).is_err());

    let public = *fast.public();
    let to_fast = seal_vec(key("one-time"), &info(), b"", &public, b"an answer").expect("seals");
    assert_eq!(&open_vec(&fast, &info(), b"", &to_fast).expect("opens")[..], b"an answer");
    let one_time = AwsLcDhKey::generate().expect("a key");
    let from_fast = seal_vec(one_time, &info(), b"", soft.public(), b"a share").expect("seals");
    assert_eq!(&open_vec(&soft, &info(), b"", &from_fast).expect("opens")[..], b"a share");
}

fn records(count: u16) -> Vec<ShareRecord> {
    let record = |number: u16| {
        let (key, epoch) = (KeyId::from_bytes([number as u8; 16]), Epoch::new(number.into()));
        let share = Share::new(ShareIndex::new(number).expect("not zero"), [number as u8; 32], [0xbb; 32]);
        ShareRecord { key, epoch, share }
    };
    (1..=count).map(record).collect()
}

#[test]
fn a_list_survives_its_encoding() {
    for count in [0, 1, 3, 1000] {
        let records = records(count);
        let mut buffer = vec![0; share_list_len(records.len())];
        let bytes = encode_share_list(records.iter(), &mut buffer).expect("fits").to_vec();
        assert_eq!(bytes.len(), buffer.len());
        let list = ShareList::parse(&bytes).expect("well formed");
        assert_eq!(list.len(), records.len());
        assert!(list.iter().eq(records), "{count} shares");
        assert_eq!(ShareList::parse(&[&bytes[..], &[0]].concat()).map(|_| ()), Err(Error::TrailingBytes));
        for end in 0..bytes.len().min(400) {
            assert_eq!(ShareList::parse(&bytes[..end]).map(|_| ()), Err(Error::Truncated), "cut at {end}");
        }
        let mut version = bytes.clone();
        version[0] = 2;
        assert_eq!(ShareList::parse(&version).map(|_| ()), Err(Error::UnknownVersion(2)));
    }
    let mut bytes = vec![0; share_list_len(2)];
    encode_share_list(records(2).iter(), &mut bytes).expect("fits");
    bytes[3 + ENTRY_BYTES + 20..][..2].fill(0);
    assert_eq!(ShareList::parse(&bytes).map(|_| ()), Err(Error::OutOfRange), "index 0 would be the secret");
    assert_eq!(encode_share_list(records(2).iter(), &mut bytes[1..]).map(|_| ()), Err(Error::BufferTooSmall));
}
