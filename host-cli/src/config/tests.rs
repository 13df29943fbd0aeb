//! Where settings are found and which are refused.

use std::{collections::HashMap, fs, os::unix::fs::PermissionsExt as _};

use super::*;
use crate::storage::{Protocol, Site, site::Proof};

fn load(named: Option<&Path>, variables: &[(&str, &Path)]) -> Result<Config, Error> {
    let variables: HashMap<&str, OsString> =
        variables.iter().map(|(name, path)| (*name, path.as_os_str().to_owned())).collect();
    Config::load_with(named, &|name| variables.get(name).cloned())
}

fn written(text: &str) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("config.toml");
    fs::write(&file, text).expect("writes");
    (directory, file)
}

#[test]
fn the_example_is_valid_and_its_paths_are_beside_it() {
    let (directory, file) = written(EXAMPLE);
    let home = Path::new("/home/alice");
    let config = load(Some(&file), &[("HOME", home)]).expect("valid");
    let pair = config.identity.pair.expect("a certificate and its key");
    assert_eq!(pair.key, directory.path().join("alice.key"));
    assert_eq!(config.tls_ca, directory.path().join("ca.crt"));
    assert_eq!(config.state, home.join(".local/state/eds"));
    assert_eq!(config.storage.first(), &Site::local(home.join(".local/share/eds/objects")));
    assert_eq!(config.catalog, home.join(".local/share/eds/catalog.sqlite"));
    assert_eq!(config.terms, Terms::default());
}

#[test]
fn every_setting_is_taken() {
    let text = format!(
        "state = \"s\"\n{EXAMPLE}\n[storage]\npath = \"/objects\"\n[catalog]\npath = \"c.sqlite\"\n\
         [metadata]\npath = \"m.sqlite\"\n[keys]\nthreshold = 3\nquorum = 4\n"
    )
    .replace("[identity]", "[identity]\nuse = \"proxy\"\nproxy = \"p\"\ntoken_file = \"/t\"")
        + "[login]\nissuer = \"https://id.example\"\nclient_id = \"eds\"\nca = \"i.pem\"\nscope = \"a b\"\naudience = \"x\"\n";
    let (directory, file) = written(&text);
    let config = load(Some(&file), &[]).expect("needs no HOME when all is set");
    assert_eq!(config.state, directory.path().join("s"));
    assert_eq!(config.storage.first(), &Site::local("/objects".into()));
    assert_eq!(config.catalog, directory.path().join("c.sqlite"));
    assert_eq!(config.metadata, Location::File(directory.path().join("m.sqlite")));
    assert_eq!(config.terms, Terms { needed: Some(3), quorum: Quorum::Nodes(4) });
    let login = Login {
        issuer: "https://id.example".into(),
        client_id: "eds".into(),
        ca: Some(directory.path().join("i.pem")),
        scope: "a b".into(),
        audience: Some("x".into()),
    };
    assert_eq!(config.login, Some(login));
    assert_eq!(config.identity.wanted, Some(ProofKind::Proxy));
    assert_eq!(config.identity.proxy, Some(directory.path().join("p")));
    assert_eq!(config.identity.token_file.as_deref(), Some(Path::new("/t")));
}

#[test]
fn an_issuer_without_https_is_refused() {
    let (_directory, file) =
        written(&format!("{EXAMPLE}[login]\nissuer = \"http://id.example\"\nclient_id = \"eds\"\n"));
    assert!(matches!(load(Some(&file), &[("HOME", Path::new("/h"))]), Err(Error::PlainIssuer { .. })));
}

#[test]
fn a_certificate_is_named_with_its_key_or_not_at_all() {
    let home = [("HOME", Path::new("/h"))];
    let trust = "[trust]\ntls_ca = \"ca.crt\"\n";
    let (_directory, file) = written(trust);
    assert_eq!(load(Some(&file), &home).expect("valid").identity, Identity::default());
    for half in ["certificate = \"x\"", "key = \"x\""] {
        let (_directory, file) = written(&format!("[identity]\n{half}\n{trust}"));
        assert!(matches!(load(Some(&file), &home), Err(Error::HalfPair { .. })), "{half}");
    }
}

#[test]
fn a_missing_file_is_answered_with_an_example() {
    let directory = tempfile::tempdir().expect("a directory");
    let error = load(None, &[("XDG_CONFIG_HOME", directory.path())]).expect_err("no file");
    assert_eq!(
        error.to_string(),
        format!("there is no configuration file {}", directory.path().join("eds/config.toml").display())
    );
    assert!(error.hint().expect("a hint").contains("[identity]"));
    assert_eq!(error.kind(), Kind::Usage);
    assert!(matches!(load(None, &[]), Err(Error::NoHome("XDG_CONFIG_HOME", _))));
}

#[test]
fn a_misspelt_setting_is_refused() {
    for wrong in [
        format!("{EXAMPLE}\n[keys]\ntreshold = 2\n"),
        format!("{EXAMPLE}\n[storge]\npath = \"x\"\n"),
        EXAMPLE.replace("tls_ca", "ca"),
        EXAMPLE.replace("[identity]", "[identity]\nuse = \"password\""),
    ] {
        let (_directory, file) = written(&wrong);
        assert!(matches!(load(Some(&file), &[("HOME", Path::new("/h"))]), Err(Error::Invalid { .. })), "{wrong}");
    }
}

#[test]
fn a_key_that_others_may_read_is_refused() {
    let (directory, _file) = written(EXAMPLE);
    let key = directory.path().join("alice.key");
    fs::write(&key, "pem").expect("writes");
    for (mode, fine) in [(0o600, true), (0o400, true), (0o640, false), (0o604, false), (0o660, false)] {
        fs::set_permissions(&key, fs::Permissions::from_mode(mode)).expect("changes the mode");
        let read = read_private(&key);
        assert_eq!(read.is_ok(), fine, "mode {mode:o}");
        if let Err(error) = read {
            assert_eq!(error.hint(), Some(format!("chmod 600 {}", key.display())));
        }
    }
}

#[test]
fn a_secret_that_somebody_else_can_swap_is_refused() {
    let (directory, _file) = written(EXAMPLE);
    let (key, link) = (directory.path().join("alice.key"), directory.path().join("link"));
    fs::write(&key, "pem").expect("writes");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).expect("changes the mode");
    std::os::unix::fs::symlink(&key, &link).expect("a link");
    assert!(read_private(&link).is_ok(), "a link in a directory of one's own");
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o1777)).expect("changes the mode");
    assert!(matches!(read_private(&link), Err(Error::Read { .. })), "a link where everybody can put one");
    assert!(read_private(&key).is_ok());
    assert!(matches!(read_private(directory.path()), Err(Error::Read { .. })), "a directory");
    // Only root can give a file away.
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(&key, Some(4711), None).expect("given away");
        assert!(matches!(read_private(&key), Err(Error::Foreign { owner: 4711, .. })));
    }
}

const SITES: &str = "
[storage]
path = \"objects\"

[[storage.site]]
name = \"grid\"
url = \"davs://se.example:1094/myvo/eds/\"

[[storage.site]]
name = \"cloud\"
url = \"s3://images/eds\"
endpoint = \"https://s3.example\"
key_file = \"s3.key\"
identify = false
";

#[test]
fn sites_come_in_the_order_of_the_file_and_the_directory_first() {
    let (directory, file) = written(&(EXAMPLE.to_owned() + SITES));
    let variables =
        [("HOME", Path::new("/h")), ("X509_USER_PROXY", Path::new("/p")), ("X509_CERT_DIR", Path::new("/ca"))];
    let config = load(Some(&file), &variables).expect("valid");
    let names: Vec<&str> = config.storage.iter().map(Site::name).collect();
    assert_eq!(names, ["local", "grid", "cloud"]);
    assert_eq!(config.storage.first(), &Site::local(directory.path().join("objects")));
    let grid = config.storage.named("grid").expect("is there");
    assert_eq!(grid.url().as_str(), "davs://se.example:1094/myvo/eds");
    assert_eq!(grid.access().proofs.first(), Some(&Proof::Proxy("/p".into())), "a proxy comes before the certificate");
    let pair = config.identity.pair.clone().expect("a certificate");
    assert_eq!(grid.access().proofs.last(), Some(&Proof::Certificate(pair)));
    assert_eq!(grid.access().ca.as_deref(), Some(Path::new("/ca")));
    let cloud = config.storage.named("cloud").expect("is there");
    assert_eq!(cloud.url().protocol(), Protocol::S3);
    assert_eq!(cloud.access().key_file, Some(directory.path().join("s3.key")));
    assert_eq!((cloud.access().proofs.len(), &cloud.access().ca), (0, &None), "not the grid's authorities");
    let first = SITES.replace("path = \"objects\"", "");
    let (_kept, file) = written(&(EXAMPLE.to_owned() + &first));
    assert_eq!(load(Some(&file), &variables).expect("valid").storage.first().name(), "grid");
}

#[test]
fn the_proof_for_the_key_servers_goes_to_no_storage_as_a_token() {
    let text = EXAMPLE.replace("[trust]", "token_file = \"keys.token\"\n[trust]") + SITES;
    let (_directory, file) = written(&text);
    let config = load(Some(&file), &[("HOME", Path::new("/h")), ("BEARER_TOKEN", Path::new("x"))]).expect("valid");
    assert!(config.storage.iter().all(|site| site.access().token_file.is_none()));
}

#[test]
fn a_storage_that_cannot_be_meant_is_refused() {
    for (from, to) in [
        ("grid", "local"),
        ("cloud", "grid"),
        ("davs://se.example:1094/myvo/eds/", "davs://alice:secret@se.example/x"),
        ("davs://se.example:1094/myvo/eds/", "se.example/x"),
        ("s3://images/eds", "https://images/eds"),
        ("identify = false", "secret_key = \"x\""),
        ("identify = false", "certificate = \"x\""),
    ] {
        let (_directory, file) = written(&(EXAMPLE.to_owned() + &SITES.replace(from, to)));
        let error = load(Some(&file), &[("HOME", Path::new("/h"))]).expect_err(to);
        assert!(!error.to_string().contains("secret@"), "{error}");
    }
}
