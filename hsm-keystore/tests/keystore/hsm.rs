//! One conformance suite for [`Hsm`], over the in-memory token and over SoftHSM, and what only a real token can show.

use cryptoki::{
    context::{CInitializeArgs, CInitializeFlags, Pkcs11},
    mechanism::Mechanism,
    object::{Attribute, AttributeType, KeyType, ObjectClass},
    session::{Session, UserType},
    types::{AuthPin, Ulong},
};
use eds_core::ids::NodeId;
use eds_keystore::hsm::{
    Hsm, HsmError, HsmErrorKind, RecordContext, ToUnwrap, ToWrap, TokenKeyId,
    memory::MemoryHsm,
    pin::PinSource,
    pkcs11::{Pkcs11Hsm, Role, create_keys},
    record::{HEADER, Record, Suite},
    self_test::{self, Check},
};
use p256::{SecretKey, elliptic_curve::sec1::ToSec1Point};
use zeroize::Zeroizing;

use crate::common::softhsm::{MODULE, PIN, with_softhsm};

pub(crate) const NODE: NodeId = NodeId::from_bytes([8; 16]);

fn context(number: usize) -> RecordContext {
    RecordContext { public: [number as u8 + 1; 32], ..RecordContext::data_key(NODE) }
}

fn secret(number: usize) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(vec![number as u8; 64])
}

fn wrap(hsm: &dyn Hsm, count: usize) -> Vec<Vec<u8>> {
    let secrets = (0..count).map(|number| ToWrap { context: context(number), secret: secret(number) }).collect();
    hsm.wrap(secrets).expect("wraps")
}

fn failures(checks: &[Check]) -> Vec<(&'static str, &str)> {
    checks.iter().filter_map(|check| check.outcome.as_ref().err().map(|reason| (check.what, reason.as_str()))).collect()
}

/// What every token must do.
pub(crate) fn conforms(hsm: &dyn Hsm) {
    // Batches of every size come back in order.
    for count in [0, 1, 2, 33, 200] {
        let records = wrap(hsm, count);
        assert_eq!(records.len(), count);
        for record in &records {
            let suite = Record::parse(record).expect("a record").suite;
            assert_eq!(record.len(), suite.record_length(64));
        }
        let items =
            records.into_iter().enumerate().map(|(number, record)| ToUnwrap { context: context(number), record });
        for (number, opened) in hsm.unwrap(items.collect()).expect("answers").into_iter().enumerate() {
            assert_eq!(opened.expect("opens"), secret(number));
        }
    }

    // A bad record is refused for itself alone.
    let records = wrap(hsm, 6);
    let mut items: Vec<_> =
        records.into_iter().enumerate().map(|(number, record)| ToUnwrap { context: context(number), record }).collect();
    items[1].context = context(7);
    items[2].record[HEADER + 20] ^= 1;
    items[3].record.truncate(20);
    items[4].record[5] ^= 1; // names a KEK that is not there
    let opened = hsm.unwrap(items).expect("answers");
    let good: Vec<_> = opened.iter().map(Result::is_ok).collect();
    assert_eq!(good, [true, false, false, false, false, true]);

    // Not one bit of a record may change, not even in the name of its suite.
    let record = wrap(hsm, 1).pop().expect("one");
    let altered = (0..record.len()).map(|position| {
        let mut record = record.clone();
        record[position] ^= if position == 1 { 3 } else { 1 };
        ToUnwrap { context: context(0), record }
    });
    let opened = hsm.unwrap(altered.collect()).expect("answers");
    assert!(opened.iter().all(Result::is_err));

    // A secret's records all differ.
    let twice = || ToWrap { context: context(1), secret: secret(1) };
    let records = hsm.wrap(vec![twice(), twice()]).expect("wraps");
    assert_ne!(records[0], records[1]);

    // Key agreement is that of software; points off the curve are the caller's fault.
    let ours = SecretKey::from_slice(&[0x5a; 32]).expect("in the field");
    let mut peer = [0; 65];
    peer.copy_from_slice(ours.public_key().to_sec1_point(false).as_bytes());
    let transport = p256::PublicKey::from_sec1_bytes(&hsm.transport_key().0).expect("a point");
    let expected = p256::elliptic_curve::ecdh::diffie_hellman(ours.to_nonzero_scalar(), transport.as_affine());
    assert_eq!(hsm.dh(&peer).expect("agrees").as_slice(), expected.raw_secret_bytes().as_slice());
    let mut off_curve = peer;
    off_curve[64] ^= 1;
    for wrong in [off_curve, [0; 65], [4; 65], [0xff; 65]] {
        let error = hsm.dh(&wrong).expect_err("not a point");
        assert_eq!(error.kind(), HsmErrorKind::Caller, "{error}");
    }

    // HMACs depend on the message alone.
    let macs = hsm.mac(vec![b"a".to_vec(), b"b".to_vec(), b"a".to_vec(), vec![0; 100_000]]).expect("answers");
    assert_eq!(macs.len(), 4);
    assert!(macs[0] == macs[2] && macs[0] != macs[1] && macs[0] != macs[3]);

    // The self-test passes, and the canaries bind a database to token and node.
    assert_eq!(failures(&self_test::operations(hsm)), []);
    let canary = self_test::make_canary(hsm, NODE).expect("made");
    let policy = self_test::make_policy_canary(hsm, NODE).expect("made");
    assert_eq!(failures(&self_test::belongs(hsm, NODE, canary.clone(), &policy)), []);
    let other = NodeId::from_bytes([1; 16]);
    assert_eq!(failures(&self_test::belongs(hsm, other, canary, &policy)).len(), 2);

    // Many callers at once get their own answers.
    std::thread::scope(|scope| {
        for thread in 0..8 {
            scope.spawn(move || {
                for round in 0..20 {
                    let number = thread * 100 + round;
                    let record = wrap(hsm, number % 7 + 1).pop().expect("one");
                    let item = ToUnwrap { context: context(number % 7), record };
                    let opened = hsm.unwrap(vec![item]).expect("answers").pop().expect("one");
                    assert_eq!(opened.expect("opens"), secret(number % 7));
                }
            });
        }
    });
}

#[test]
fn the_token_in_memory_conforms() {
    for suite in Suite::ALL {
        conforms(&MemoryHsm::with_suite(suite).expect("made"));
    }
}

#[test]
fn the_token_in_memory_can_be_out_of_order() {
    let hsm = MemoryHsm::new().expect("made");
    hsm.set_out_of_order(true);
    assert_eq!(hsm.canary().expect_err("out of order").kind(), HsmErrorKind::Retry);
    hsm.set_out_of_order(false);
    hsm.canary().expect("works again");
}

#[test]
fn softhsm_conforms() {
    with_softhsm(concat!(module_path!(), "::softhsm_conforms"), |softhsm| {
        let config = softhsm.make_token("node-1");
        let made = create_keys(&config, NODE).expect("made");
        let hsm = Pkcs11Hsm::open(&config).expect("opens");
        assert_eq!(hsm.transport_key(), made.transport);
        assert_eq!(hsm.describe().expect("described"), made.keys);
        conforms(&hsm);
        assert_eq!(Record::parse(&wrap(&hsm, 1)[0]).expect("a record").suite, Suite::Aes256Gcm);
    });
}

#[test]
fn softhsm_conforms_without_gcm() {
    with_softhsm(concat!(module_path!(), "::softhsm_conforms_without_gcm"), |softhsm| {
        let mut config = softhsm.make_token("node-1");
        create_keys(&config, NODE).expect("made");
        let before = wrap(&Pkcs11Hsm::open(&config).expect("opens"), 1).pop().expect("one");
        config.suite = Some(Suite::Aes256CbcHmac);
        let hsm = Pkcs11Hsm::open(&config).expect("opens");
        conforms(&hsm);
        assert_eq!(Record::parse(&wrap(&hsm, 1)[0]).expect("a record").suite, Suite::Aes256CbcHmac);
        let told = hsm.inspect().expect("looks");
        assert!(
            told.iter().any(|check| check.outcome.as_ref().is_ok_and(|found| found.contains("suite 2"))),
            "{told:?}"
        );
        // What was wrapped with the other suite still opens.
        let opened = hsm.unwrap(vec![ToUnwrap { context: context(0), record: before }]).expect("answers");
        assert_eq!(opened[0].as_ref().expect("opens"), &secret(0));
    });
}

#[test]
fn softhsm_takes_another_kek_while_it_works() {
    with_softhsm(concat!(module_path!(), "::softhsm_takes_another_kek_while_it_works"), |softhsm| {
        let tokens = Suite::ALL.map(|suite| (suite, softhsm.make_token(suite.word())));
        for (suite, mut config) in tokens {
            config.suite = Some(suite);
            create_keys(&config, NODE).expect("made");
            let hsm = Pkcs11Hsm::open(&config).expect("opens");
            let first = hsm.kek();
            let before = wrap(&hsm, 40);
            let open = |records: &[Vec<u8>]| {
                let items = records.iter().enumerate();
                let items = items.map(|(number, record)| ToUnwrap { context: context(number), record: record.clone() });
                hsm.unwrap(items.collect()).expect("answers")
            };
            let all_open = |records: &[Vec<u8>]| {
                open(records)
                    .into_iter()
                    .enumerate()
                    .all(|(number, opened)| opened.is_ok_and(|it| it == secret(number)))
            };
            // As officers do it: another process makes the key. What it made is narrow.
            let (second, made) = hsm.make_kek().expect("made");
            assert_eq!(made.len(), 2);
            assert!(made.iter().all(|key| key.check().outcome.is_ok()), "{made:?}");
            assert_eq!(hsm.kek(), first, "a KEK was taken before it was adopted");
            hsm.adopt(TokenKeyId::from_bytes([9; 16])).expect_err("there is no such KEK");
            assert_eq!(hsm.kek(), first);
            hsm.destroy_kek(first).expect_err("it is in use");
            hsm.adopt(second).expect("adopted");
            assert_eq!(hsm.kek(), second);
            let after = wrap(&hsm, 40);
            assert!(after.iter().all(|record| Record::parse(record).expect("a record").kek == second));
            assert!(all_open(&before) && all_open(&after));
            conforms(&hsm);
            // The ids are part of what is authenticated.
            let mut renamed = before.clone();
            renamed.iter_mut().for_each(|record| record[3..19].copy_from_slice(second.as_bytes()));
            assert!(open(&renamed).iter().all(Result::is_err));
            // It comes back with the KEK of today, also when the one of before is gone.
            hsm.destroy_kek(first).expect("destroyed");
            assert!(open(&before).iter().all(Result::is_err));
            raw_session(suite.word()).logout().expect("logs the whole process out");
            assert!(all_open(&after));
            conforms(&hsm);
            let described = hsm.describe_keks().expect("described");
            assert_eq!(described, made);
            let again = Pkcs11Hsm::open_with_kek(&config, Some(second)).expect("opens");
            assert_eq!(again.kek(), second);
        }
    });
}

#[test]
fn a_ceremony_makes_narrow_keys_once() {
    with_softhsm(concat!(module_path!(), "::a_ceremony_makes_narrow_keys_once"), |softhsm| {
        let config = softhsm.make_token("node-1");
        let made = create_keys(&config, NODE).expect("made");
        let kek = made.keys.iter().find(|key| key.role == Role::Kek).expect("a KEK");
        for set in ["SENSITIVE", "ALWAYS_SENSITIVE", "NEVER_EXTRACTABLE", "LOCAL", "PRIVATE", "ENCRYPT", "DECRYPT"] {
            assert!(kek.set.contains(&set), "{set}: {kek:?}");
        }
        for unset in ["EXTRACTABLE", "WRAP", "UNWRAP", "SIGN", "VERIFY", "DERIVE"] {
            assert!(kek.unset.contains(&unset), "{unset}: {kek:?}");
        }
        let error = create_keys(&config, NODE).expect_err("there are keys");
        assert!(error.to_string().contains("already"), "{error}");
        let again = Pkcs11Hsm::open(&config).expect("the first keys are still there");
        assert_eq!(again.transport_key(), made.transport);
    });
}

#[test]
fn a_missing_token_is_told_with_those_that_are_there() {
    with_softhsm(concat!(module_path!(), "::a_missing_token_is_told_with_those_that_are_there"), |softhsm| {
        let mut config = softhsm.make_token("node-1");
        let error = Pkcs11Hsm::open(&config).err().expect("no keys yet").to_string();
        assert!(error.contains("eds-keystored init"), "{error}");
        config.token = "node-2".into();
        let error = Pkcs11Hsm::open(&config).err().expect("no such token").to_string();
        assert!(error.contains("node-2") && error.contains("\"node-1\""), "{error}");
        config.module = "/nonexistent/module.so".into();
        let error = Pkcs11Hsm::open(&config).err().expect("no such module").to_string();
        assert!(error.contains("/nonexistent/module.so"), "{error}");
    });
}

#[test]
fn a_wrong_pin_is_told_without_the_pin() {
    with_softhsm(concat!(module_path!(), "::a_wrong_pin_is_told_without_the_pin"), |softhsm| {
        softhsm.make_token("node-1");
        let wrong = softhsm.config("node-1", "00000000");
        let error = Pkcs11Hsm::open(&wrong).err().expect("a wrong PIN");
        assert!(matches!(error, HsmError::Pin { .. }), "{error}");
        assert!(!error.to_string().contains("0000"), "the PIN is in the message: {error}");
    });
}

#[test]
fn a_refused_pin_is_never_tried_again() {
    with_softhsm(concat!(module_path!(), "::a_refused_pin_is_never_tried_again"), |softhsm| {
        let config = softhsm.make_token("node-1");
        create_keys(&config, NODE).expect("made");
        let hsm = Pkcs11Hsm::open(&config).expect("opens");
        hsm.canary().expect("works");
        let PinSource::File(pin_file) = &config.pin else { panic!("a file") };
        std::fs::write(pin_file, "00000000").expect("written");
        raw_session("node-1").logout().expect("logs the whole process out");
        let first = hsm.canary().expect_err("the PIN is wrong").to_string();
        assert!(first.contains("refused the PIN in"), "{first}");
        // Not even with the right PIN: the file would have to be put right by a person, who restarts the server.
        std::fs::write(pin_file, PIN).expect("written");
        for _ in 0..3 {
            let later = hsm.canary().expect_err("not tried again").to_string();
            assert!(later.contains("refused the PIN before"), "{later}");
        }
    });
}

#[test]
fn another_token_is_not_taken_for_the_one_of_the_database() {
    with_softhsm(concat!(module_path!(), "::another_token_is_not_taken_for_the_one_of_the_database"), |softhsm| {
        let (first, second) = (softhsm.make_token("node-1"), softhsm.make_token("node-2"));
        create_keys(&first, NODE).expect("made");
        create_keys(&second, NODE).expect("made");
        let (first, second) = (Pkcs11Hsm::open(&first).expect("opens"), Pkcs11Hsm::open(&second).expect("opens"));
        let canary = self_test::make_canary(&first, NODE).expect("made");
        let policy = self_test::make_policy_canary(&first, NODE).expect("made");
        assert_eq!(failures(&self_test::belongs(&second, NODE, canary, &policy)).len(), 2);
        let record = wrap(&first, 1).pop().expect("one");
        let opened = second.unwrap(vec![ToUnwrap { context: context(0), record }]).expect("answers");
        assert!(opened[0].is_err());
    });
}

#[test]
fn a_logged_out_token_heals() {
    with_softhsm(concat!(module_path!(), "::a_logged_out_token_heals"), |softhsm| {
        let config = softhsm.make_token("node-1");
        create_keys(&config, NODE).expect("made");
        let hsm = Pkcs11Hsm::open(&config).expect("opens");
        let record = wrap(&hsm, 1).pop().expect("one");
        raw_session("node-1").logout().expect("logs the whole process out");
        let opened = hsm.unwrap(vec![ToUnwrap { context: context(0), record }]).expect("answers");
        assert!(opened[0].is_ok(), "the record was blamed for the token's state");
        raw_session("node-1").logout().expect("logs the whole process out");
        conforms(&hsm);
    });
}

#[test]
fn a_key_that_is_not_as_it_must_be_fails_the_self_test() {
    with_softhsm(concat!(module_path!(), "::a_key_that_is_not_as_it_must_be_fails_the_self_test"), |softhsm| {
        // SoftHSM sees no tokens that are made after its start.
        let [wide, loose, double] = ["wide", "loose", "double"].map(|label| softhsm.make_token(label));
        // A KEK that may wrap, and one that may leave the token.
        for (config, label, wrap, extractable, blamed) in [
            (wide, "wide", true, false, "attributes of the KEK"),
            (loose, "loose", false, true, "keys cannot be wrapped out"),
        ] {
            create_keys(&config, NODE).expect("made");
            let session = logged_in(label);
            let kek = find(&session, Role::Kek);
            let id = session.get_attributes(kek, &[AttributeType::Id]).expect("told").remove(0);
            session.destroy_object(kek).expect("destroyed");
            make_kek(&session, Role::Kek, wrap, extractable, id);
            let hsm = Pkcs11Hsm::open(&config).expect("opens");
            let checks = self_test::operations(&hsm);
            assert!(failures(&checks).iter().any(|(what, _)| *what == blamed), "{checks:?}");
        }
        // Several KEKs, of which somebody must say which is the active one.
        let config = double;
        create_keys(&config, NODE).expect("made");
        let hsm = Pkcs11Hsm::open(&config).expect("opens");
        let session = logged_in("double");
        make_kek(&session, Role::Kek, false, false, Attribute::Id(vec![3; 16]));
        let error = Pkcs11Hsm::open(&config).err().expect("ambiguous").to_string();
        assert!(error.contains("there are 2 keys \"eds-kek\""), "{error}");
        let told = Pkcs11Hsm::open_with_kek(&config, Some(hsm.kek())).expect("opens");
        assert_eq!(failures(&self_test::operations(&told)), []);
        // Two keys of any other label.
        make_kek(&session, Role::Policy, false, false, Attribute::Id(vec![4; 16]));
        let checks = self_test::operations(&hsm);
        assert!(failures(&checks).iter().any(|(what, _)| *what == "one key of each label and id"), "{checks:?}");
        let error = Pkcs11Hsm::open_with_kek(&config, Some(hsm.kek())).err().expect("ambiguous").to_string();
        assert!(error.contains("there are 2 keys \"eds-policy\""), "{error}");
        // A key that is gone.
        for key in session.find_objects(&[Attribute::Label(Role::Policy.label().into())]).expect("searches") {
            session.destroy_object(key).expect("destroyed");
        }
        assert!(hsm.mac(vec![vec![1]]).is_err());
    });
}

fn raw_session(label: &str) -> Session {
    let module = Pkcs11::new(MODULE).expect("loads");
    // The module is initialised by the token under test.
    let _ = module.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK));
    let slot = module
        .get_slots_with_initialized_token()
        .expect("lists")
        .into_iter()
        .find(|slot| module.get_token_info(*slot).expect("described").label().trim_end() == label)
        .expect("the token");
    module.open_rw_session(slot).expect("opens")
}

fn logged_in(label: &str) -> Session {
    let session = raw_session(label);
    let _ = session.login(UserType::User, Some(&AuthPin::from(PIN.to_owned())));
    session
}

fn find(session: &Session, role: Role) -> cryptoki::object::ObjectHandle {
    session.find_objects(&[Attribute::Label(role.label().into())]).expect("searches")[0]
}

fn make_kek(session: &Session, label: Role, wrap: bool, extractable: bool, id: Attribute) {
    let template = [
        Attribute::Class(ObjectClass::SECRET_KEY),
        Attribute::KeyType(KeyType::AES),
        Attribute::ValueLen(Ulong::new(32)),
        Attribute::Token(true),
        Attribute::Private(true),
        Attribute::Sensitive(true),
        Attribute::Extractable(extractable),
        Attribute::Encrypt(true),
        Attribute::Decrypt(true),
        Attribute::Wrap(wrap),
        Attribute::Label(label.label().into()),
        id,
    ];
    session.generate_key(&Mechanism::AesKeyGen, &template).expect("made");
}
