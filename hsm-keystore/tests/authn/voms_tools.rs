//! Real proxies by `voms-proxy-fake`, and libvomsapi with full verification as a second opinion on good ones and forgeries.
//!
//! Needs openssl, gcc and the Debian packages voms-clients and voms-dev (the test set-up installs them).

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::OnceLock,
    time::{SystemTime, UNIX_EPOCH},
};

use eds_keystore::authn::{
    chain::{self, Proven},
    trust::{
        Settings, TrustStore,
        directory::{Sources, load},
    },
    voms::{Attested, Refusal, VomsDirectory, directory::parse_lsc, verify},
};
use rustls::pki_types::{CertificateDer, pem::PemObject};

use crate::forge::{
    Attributes, DAY, INHERIT_ALL, Issued, Key, Template, authority_key_id, extension, pem, targets, voms_extension,
};

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs() as i64
}

fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}; run the test set-up"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "{command:?}: {} {} {}",
        output.status,
        text(&output.stdout),
        text(&output.stderr)
    );
    output
}

fn here(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/authn").join(file)
}

/// The oracle, built once.
fn oracle() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("vomsoracle-{}", std::process::id()));
        run(Command::new("gcc")
            .arg(here("vomsoracle.c"))
            .args(["-I/usr/include/voms", "-lvomsapi", "-lcrypto", "-o"])
            .arg(&program));
        program
    })
}

/// What we say of attributes.
type OurVerdict = Result<Option<Attested>, Refusal>;

/// A directory with an authority, people and a VOMS server made by openssl.
struct Pki {
    directory: tempfile::TempDir,
}

impl Pki {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        run(Command::new("bash").arg(here("pki.sh")).arg(directory.path()));
        Self { directory }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A proxy of this person, by `voms-proxy-fake`.
    fn fake(&self, person: &str, more: &[&str]) -> Vec<Vec<u8>> {
        self.fake_by("voms", person, more)
    }

    /// The same, with the attributes signed by another server's key.
    fn fake_by(&self, server: &str, person: &str, more: &[&str]) -> Vec<Vec<u8>> {
        let out = self.path("proxy.pem");
        let _ = fs::remove_file(&out);
        let mut command = Command::new("voms-proxy-fake");
        command
            .arg("-cert")
            .arg(self.path(&format!("{person}.pem")))
            .arg("-key")
            .arg(self.path(&format!("{person}.key")))
            .arg("-certdir")
            .arg(self.path("certificates"))
            .arg("-hostcert")
            .arg(self.path(&format!("{server}.pem")))
            .arg("-hostkey")
            .arg(self.path(&format!("{server}.key")))
            .arg("-out")
            .arg(&out)
            .args([
                "-voms",
                "myvo",
                "-uri",
                "voms.example.org:15000",
                "-rfc",
                "-bits",
                "2048",
                "-hours",
                "12",
                "-vomslife",
                "12",
                "-newformat",
            ])
            .args(more)
            .env("X509_CERT_DIR", self.path("certificates"))
            .env("X509_VOMS_DIR", self.path("vomsdir"));
        run(&mut command);
        certificates(&fs::read(&out).expect("a proxy"))
    }

    fn trust(&self) -> TrustStore {
        let sources = Sources { directories: vec![self.path("certificates")], bundles: Vec::new() };
        let (trust, warnings) = load(&sources, Settings::default()).expect("authorities");
        assert_eq!(warnings, Vec::<String>::new());
        trust
    }

    fn judge(&self, chain: &[Vec<u8>]) -> (Result<Proven, chain::Refusal>, Option<OurVerdict>) {
        let trust = self.trust();
        let (vomsdir, warnings) = VomsDirectory::load(&self.path("vomsdir")).expect("a vomsdir");
        assert_eq!(warnings, Vec::<String>::new());
        let proven = chain::verify(chain, &trust, now());
        let attested = proven.as_ref().ok().map(|proven| verify(proven, &trust, &vomsdir, &[hostname()], now()));
        (proven, attested)
    }

    /// What libvomsapi says: FQANs, or its error.
    fn ask_oracle(&self, chain: &[Vec<u8>]) -> Result<Vec<String>, String> {
        ask_oracle(chain, &self.path("certificates"), &self.path("vomsdir"))
    }
}

fn ask_oracle(chain: &[Vec<u8>], certificates: &Path, vomsdir: &Path) -> Result<Vec<String>, String> {
    let file = tempfile::NamedTempFile::new().expect("a file");
    fs::write(file.path(), chain.iter().map(|der| pem("CERTIFICATE", der)).collect::<String>()).expect("written");
    let mut command = Command::new(oracle());
    let output = command
        .arg(file.path())
        .env("X509_CERT_DIR", certificates)
        .env("X509_VOMS_DIR", vomsdir)
        .output()
        .expect("runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    match output.status.code() {
        Some(0) => Ok(text.lines().map(str::to_owned).collect()),
        Some(1) => Err(text),
        other => panic!("the oracle failed: {other:?} {text}"),
    }
}

fn certificates(pem: &[u8]) -> Vec<Vec<u8>> {
    CertificateDer::pem_slice_iter(pem).map(|item| item.expect("a certificate").to_vec()).collect()
}

fn hostname() -> String {
    fs::read_to_string("/proc/sys/kernel/hostname").expect("a host name").trim().to_owned()
}

#[test]
fn real_proxies_prove_their_holder_and_its_groups() {
    let pki = Pki::new();
    let fqans = ["-fqan", "/myvo/radiology/Role=physician", "-fqan", "/myvo", "-fqan", "/myvo/radiology"];
    let chain = pki.fake("alice", &fqans);
    let (proven, attested) = pki.judge(&chain);
    let proven = proven.expect("a good chain");
    assert_eq!(
        proven.end_entity.subject().matching().as_deref(),
        Ok("/DC=org/DC=example/OU=people/CN=Alice Radiologist")
    );
    assert_eq!((proven.proxies.len(), proven.limited), (1, false));
    let attested = attested.expect("judged").expect("good").expect("some");
    assert_eq!(attested.fqans, ["/myvo/radiology/Role=physician", "/myvo", "/myvo/radiology"]);
    assert_eq!(pki.ask_oracle(&chain).expect("good"), attested.fqans);

    let chain = pki.fake("alice", &["-fqan", "/myvo/Role=NULL/Capability=NULL", "-limited", "-path-length", "0"]);
    let (proven, attested) = pki.judge(&chain);
    assert!(proven.expect("a good chain").limited);
    assert_eq!(attested.expect("judged").expect("good").expect("some").fqans, ["/myvo"]);
}

#[test]
fn real_proxies_that_must_be_refused_are_refused_by_both() {
    let pki = Pki::new();
    let good = ["-fqan", "/myvo"];
    // Not `-target`: the tool writes an empty list, if it does not crash; the other tests have targets.
    let table: [(&str, Vec<&str>, Refusal); 2] = [
        ("expired attributes", vec!["-pastac", "20:0", "-vomslife", "1"], Refusal::Expired),
        ("a group of another VO", vec!["-fqan", "/othervo/admin"], Refusal::OutsideOfVo { vo: "myvo".into() }),
    ];
    for (what, more, wanted) in table {
        let chain = pki.fake("alice", &[&good[..], &more].concat());
        assert_eq!(pki.judge(&chain).1, Some(Err(wanted)), "{what}");
        pki.ask_oracle(&chain).expect_err(what);
    }
    let chain = pki.fake_by("forged", "alice", &good);
    assert!(matches!(pki.judge(&chain).1, Some(Err(Refusal::Signer(_)))), "a self-made CA");
    pki.ask_oracle(&chain).expect_err("a self-made CA");
    let chain = pki.fake("alice", &good);
    let lsc = pki.path("vomsdir/myvo/voms.example.org.lsc");
    fs::write(&lsc, "/DC=org/DC=example/OU=hosts/CN=other.example.org\n/DC=org/DC=example/CN=Test CA\n")
        .expect("written");
    assert!(matches!(pki.judge(&chain).1, Some(Err(Refusal::NotListed { .. }))));
    pki.ask_oracle(&chain).expect_err("another server is listed");
    fs::remove_file(&lsc).expect("removed");
    assert!(matches!(pki.judge(&chain).1, Some(Err(Refusal::UnknownServer { .. }))));
    pki.ask_oracle(&chain).expect_err("no .lsc");
    // Kinds of proxies: what the tool makes without -rfc is of the time before RFC 3820.
    let fake =
        |more: &[&str]| pki.judge(&pki.fake("alice", &[&good[..], more].concat())).0.expect_err("refused").reason;
    assert_eq!(fake(&["-pastproxy", "20:0", "-hours", "1"]), chain::Reason::Expired);
}

// ----- the same judge over what the test signs itself -----

/// A grid of the test's own making, with real times, as files for libvomsapi.
///
/// With RSA keys throughout: libvomsapi 2.1.0~rc3 takes any signature by an elliptic key for good (a wrong one is an error
/// there, and the error counts as yes), so that it is no second opinion on those.
struct Own {
    directory: tempfile::TempDir,
    root: Issued,
    server: Issued,
    alice: Issued,
    trust: TrustStore,
    vomsdir: VomsDirectory,
}

const SERVER: &str = "/DC=org/CN=voms.example.org";

fn lasting(mut template: Template) -> Template {
    template.validity = (now() - DAY, now() + DAY);
    template
}

impl Own {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let key_id = |issued: &Issued| extension("2.5.29.14", false, &crate::forge::tlv(4, &[&issued.key.sha1()]));
        let root = lasting(Template::authority("/DC=org/CN=CA"));
        // The subjectKeyIdentifier is of the key: sign again with the same key once it is known.
        let first = root.clone().self_signed_by(Key::rsa());
        let mut again = root.with(key_id(&first));
        again.issuer = first.subject.clone();
        let root = again.with_key_signed_by(first.key.clone(), &first);
        let person = |subject: &str, serial: u8| {
            let mut template = lasting(Template::person(subject)).with(authority_key_id(&root.key.sha1()));
            template.serial = vec![serial];
            template.with_key_signed_by(Key::rsa(), &root)
        };
        let (server, alice) = (person(SERVER, 3), person("/DC=org/CN=Alice", 7));
        let trust = crate::chain::store(&[&root]);
        let lsc = format!("{SERVER}\n/DC=org/CN=CA\n");
        let mut vomsdir = VomsDirectory::default();
        vomsdir.list("myvo", "voms.example.org", parse_lsc(&lsc).expect("pairs"));
        let at = |name: &str| directory.path().join(name);
        fs::create_dir_all(at("certificates")).expect("made");
        fs::create_dir_all(at("vomsdir/myvo")).expect("made");
        fs::write(at("vomsdir/myvo/voms.example.org.lsc"), lsc).expect("written");
        fs::write(at("ca.pem"), pem("CERTIFICATE", &root.der)).expect("written");
        for style in ["-subject_hash", "-subject_hash_old"] {
            let output = run(Command::new("openssl").args(["x509", "-noout", style, "-in"]).arg(at("ca.pem")));
            let hash = String::from_utf8(output.stdout).expect("text");
            fs::copy(at("ca.pem"), at("certificates").join(format!("{}.0", hash.trim()))).expect("copied");
            let policy =
                "access_id_CA X509 '/DC=org/CN=CA'\npos_rights globus CA:sign\ncond_subjects globus '\"/DC=org/*\"'\n";
            fs::write(at("certificates").join(format!("{}.signing_policy", hash.trim())), policy).expect("written");
        }
        Self { directory, root, server, alice, trust, vomsdir }
    }

    fn attributes(&self) -> Attributes {
        let mut attributes = Attributes::new(&self.alice, &self.server, &[], &["/myvo/radiology", "/myvo"]);
        attributes.validity = (now() - 60, now() + DAY / 2);
        attributes
    }

    /// The verdicts of both over a proxy with this attribute certificate.
    fn judge(&self, certificate: &[u8]) -> (OurVerdict, Result<Vec<String>, String>) {
        let proxy = lasting(Template::proxy(&self.alice, "1", INHERIT_ALL))
            .with(voms_extension(&[certificate]))
            .signed_by(&self.alice);
        let proven = chain::verify(&[&proxy, &self.alice], &self.trust, now()).expect("the chain is good");
        let ours = verify(&proven, &self.trust, &self.vomsdir, &[hostname()], now());
        let at = |name: &str| self.directory.path().join(name);
        let theirs = ask_oracle(&[proxy.der, self.alice.der.clone()], &at("certificates"), &at("vomsdir"));
        (ours, theirs)
    }
}

#[test]
fn both_accept_the_same_and_refuse_the_same() {
    let own = Own::new();
    let good = || own.attributes();
    let (ours, theirs) = own.judge(&good().signed_by(&own.server.key));
    assert_eq!(ours.expect("good").expect("some").fqans, theirs.expect("good"));

    let host = hostname();
    let (ours, theirs) = own.judge(&good().with(targets(&["other.example.org", &host])).signed_by(&own.server.key));
    assert!(ours.is_ok(), "{ours:?}");
    assert!(theirs.is_ok(), "{theirs:?}");

    let mut bob = lasting(Template::person("/DC=org/CN=Bob"));
    bob.serial = vec![8];
    let bob = bob.with_key_signed_by(Key::rsa(), &own.root);
    let fake_root = lasting(Template::authority("/DC=org/CN=CA")).self_signed_by(Key::rsa());
    let fake_server = lasting(Template::person(SERVER)).with_key_signed_by(Key::rsa(), &fake_root);
    let other_server =
        lasting(Template::person("/DC=org/CN=other.example.org")).with_key_signed_by(Key::rsa(), &own.root);
    let by = |holder: &Issued, server: &Issued| {
        let mut attributes = Attributes::new(holder, server, &[], &["/myvo"]);
        attributes.validity = good().validity;
        attributes.signed_by(&server.key)
    };
    let mut expired = good();
    expired.validity = (now() - DAY, now() - 1000);
    let mut early = good();
    early.validity = (now() + 1000, now() + DAY);
    let mut other_issuer = good();
    other_issuer.issuer = crate::forge::name("/DC=org/CN=other.example.org");
    let mut other_vo = good();
    other_vo.uri = "othervo://voms.example.org:15000".into();
    let mut outside = good();
    outside.fqans.push("/othervo/admin".into());
    for (what, certificate) in [
        ("another holder", by(&bob, &own.server)),
        ("a self-made CA", by(&own.alice, &fake_server)),
        ("a server that is not listed", by(&own.alice, &other_server)),
        ("signed by the holder", good().signed_by(&own.alice.key)),
        ("expired", expired.signed_by(&own.server.key)),
        ("not yet valid", early.signed_by(&own.server.key)),
        ("another issuer", other_issuer.signed_by(&own.server.key)),
        ("another VO", other_vo.signed_by(&own.server.key)),
        ("a group of another VO", outside.signed_by(&own.server.key)),
        ("another target", good().with(targets(&["other.example.org"])).signed_by(&own.server.key)),
        ("no target", good().with(targets(&[])).signed_by(&own.server.key)),
        ("an unknown critical extension", good().with(extension("1.2.3.4", true, &[5, 0])).signed_by(&own.server.key)),
        ("no noRevAvail", good().replace(1, None).signed_by(&own.server.key)),
        ("no authorityKeyIdentifier", good().replace(2, None).signed_by(&own.server.key)),
        ("another key identifier", good().replace(2, Some(authority_key_id(&[1; 20]))).signed_by(&own.server.key)),
    ] {
        let (ours, theirs) = own.judge(&certificate);
        assert!(ours.is_err(), "{what}: accepted by us");
        assert!(theirs.is_err(), "{what}: accepted by libvomsapi: {theirs:?}");
    }
}

#[test]
fn no_flipped_bit_is_accepted() {
    let own = Own::new();
    let certificate = own.attributes().signed_by(&own.server.key);
    let mut random = crate::mutation::Random::new();
    let mut refused_by_both = 0;
    for _ in 0..60 {
        let (position, bit) = (random.below(certificate.len()), random.below(8));
        let mut changed = certificate.clone();
        changed[position] ^= 1 << bit;
        let (ours, theirs) = own.judge(&changed);
        assert!(ours.is_err(), "byte {position} bit {bit}: accepted by us");
        refused_by_both += usize::from(theirs.is_err());
    }
    // libvomsapi overlooks a few bits outside of what is signed.
    assert!(refused_by_both > 40, "{refused_by_both} of 60");
}
