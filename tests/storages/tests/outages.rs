//! Storages that break, refuse, or are not there: what is said, and what goes on by itself.

use std::{
    io::{Read as _, Seek as _, SeekFrom, Write as _},
    time::{Duration, Instant},
};

use eds::{
    Kind,
    storage::{Error, Fault, ObjectStore, Site, conformance, site::Access},
};
use eds_storage_tests::{davs, s3, sftp, site};
use eds_tests::{
    Outcome, give_up,
    storages::{Lab, Seaweed, Sshd, Xrootd},
};

fn put(store: &dyn ObjectStore) -> Result<(), Error> {
    let object = store.create(&conformance::fresh())?;
    // Large enough that it is not sent before the refusal comes.
    object.file().write_all(&vec![7; 3_000_000]).expect("writes");
    object.finish()
}

fn fault_of(result: Result<(), Error>) -> Outcome<Fault> {
    match result {
        Err(Error::Remote { source, .. }) => Ok(source),
        other => give_up!("{other:?} is no fault of a storage"),
    }
}

#[test]
fn xrootd_tells_who_may_not_from_what_is_not_there() -> Outcome {
    Lab::inside("xrootd_tells_who_may_not_from_what_is_not_there", |lab| {
        let mut xrootd = Xrootd::start(lab)?;
        let stranger = davs(lab, &xrootd, &lab.researcher()?)?;
        let fault = fault_of(put(&*stranger.open()?))?;
        assert!(matches!(fault, Fault::Denied(_)), "{fault}");
        assert_eq!(fault.kind(), Kind::Denied);

        let nobody = Access { ca: Some(lab.grid().authorities()), ..Access::default() };
        let nobody = site("nobody", &xrootd.url("davs", "/myvo/radiology/eds"), nobody)?;
        assert!(matches!(fault_of(put(&*nobody.open()?))?, Fault::Denied(_)));

        let unknown = Access { ca: None, ..Access::default() };
        let unknown = site("unknown", &xrootd.url("davs", "/myvo/radiology/eds"), unknown)?;
        let fault = fault_of(unknown.open()?.check())?;
        assert!(matches!(&fault, Fault::Unreachable(text) if text.contains("UnknownIssuer")), "{fault}");

        let physician = davs(lab, &xrootd, &lab.physician()?)?.open()?;
        let missing = physician.open(&conformance::fresh()).map(drop);
        assert!(matches!(missing, Err(Error::NotFound { .. })), "{missing:?}");
        xrootd.stop()?;
        let fault = fault_of(physician.check())?;
        assert!(matches!(fault, Fault::Unreachable(_)), "{fault}");
        Ok(())
    })
}

/// What is read on while the server of it is started again.
fn goes_on(site: &Site, restart: impl FnOnce() -> Outcome) -> Outcome {
    let store = site.open()?;
    let content: Vec<u8> = (0..30_000_000u32).map(|number| number.to_le_bytes()[1]).collect();
    let name = conformance::put(&*store, &content);
    let mut object = store.open(&name)?;
    let mut first = vec![0; 100_000];
    object.read_exact(&mut first)?;
    restart()?;
    let mut rest = Vec::new();
    object.read_to_end(&mut rest)?;
    assert!(first == content[..100_000] && rest == content[100_000..], "what was read is what was stored");
    object.seek(SeekFrom::Start(5))?;
    object.read_exact(&mut first)?;
    assert!(first == content[5..100_005]);
    Ok(())
}

#[test]
fn a_restart_of_xrootd_is_not_noticed_by_who_reads() -> Outcome {
    Lab::inside("a_restart_of_xrootd_is_not_noticed_by_who_reads", |lab| {
        let mut xrootd = Xrootd::start(lab)?;
        let site = davs(lab, &xrootd, &lab.physician()?)?;
        goes_on(&site, || {
            xrootd.stop()?;
            xrootd.run(lab)
        })
    })
}

#[test]
fn sftp_says_whom_it_does_not_let_in_and_goes_on_after_a_restart() -> Outcome {
    Lab::inside("sftp_says_whom_it_does_not_let_in_and_goes_on_after_a_restart", |lab| {
        let mut sshd = Sshd::start(lab)?;
        let known_hosts = Some(sshd.known_hosts());
        let access = Access { key_file: Some(sshd.strange_key_file()), known_hosts, ..Access::default() };
        let fault = fault_of(site("stranger", &sshd.url(), access)?.open()?.check())?;
        assert!(matches!(fault, Fault::Denied(_)), "{fault}");
        let access =
            Access { key_file: Some(sshd.key_file()), known_hosts: Some("/dev/null".into()), ..Access::default() };
        let fault = fault_of(site("unknown", &sshd.url(), access)?.open()?.check())?;
        assert!(matches!(&fault, Fault::Denied(text) if text.contains("Host key")), "{fault}");
        let site = sftp(&sshd)?;
        goes_on(&site, || {
            sshd.stop()?;
            sshd.run()
        })?;
        sshd.stop()?;
        Ok(())
    })
}

#[test]
fn s3_tells_a_wrong_key_and_a_server_that_is_away_and_waits_for_one_that_pauses() -> Outcome {
    Lab::inside("s3_tells_a_wrong_key_and_a_server_that_is_away_and_waits_for_one_that_pauses", |lab| {
        let seaweed = Seaweed::start(lab)?;
        let access = |key| Access { key_file: Some(key), endpoint: Some(seaweed.endpoint()), ..Access::default() };
        let wrong = site("wrong", "s3://images/eds", access(seaweed.wrong_key_file()))?;
        let fault = fault_of(wrong.open()?.check())?;
        assert!(matches!(fault, Fault::Denied(_)), "{fault}");
        let nobody = Access { endpoint: Some("http://127.0.0.1:9".into()), ..access(seaweed.key_file()) };
        let began = Instant::now();
        let fault = fault_of(site("nobody", "s3://images/eds", nobody)?.open()?.check())?;
        assert!(matches!(fault, Fault::Unreachable(_)), "{fault}");
        assert!(began.elapsed() < Duration::from_secs(60));
        // A server that pauses for a while is waited for.
        let site = s3(&seaweed)?;
        let store = site.open()?;
        let name = conformance::put(&*store, &[1; 1_000_000]);
        seaweed.pause(true)?;
        std::thread::scope(|scope| {
            let read = scope.spawn(|| conformance::bytes(&*store, &name));
            let waited = Instant::now();
            while waited.elapsed() < Duration::from_secs(2) && !read.is_finished() {
                std::thread::yield_now();
            }
            assert!(!read.is_finished(), "it waits");
            seaweed.pause(false)?;
            assert_eq!(read.join().unwrap_or_default(), [1; 1_000_000]);
            Ok(())
        })
    })
}
