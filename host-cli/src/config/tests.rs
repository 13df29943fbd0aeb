//! Where settings are found and which are refused.

use std::{collections::HashMap, fs, os::unix::fs::PermissionsExt as _};

use super::*;

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
    assert_eq!(config.identity.key, directory.path().join("alice.key"));
    assert_eq!(config.tls_ca, directory.path().join("ca.crt"));
    assert_eq!(config.state, home.join(".local/state/eds"));
    assert_eq!(config.storage, home.join(".local/share/eds/objects"));
    assert_eq!(config.catalog, home.join(".local/share/eds/catalog.sqlite"));
    assert_eq!(config.threshold, None);
}

#[test]
fn every_setting_is_taken() {
    let text = format!(
        "state = \"s\"\n{EXAMPLE}\n[storage]\npath = \"/objects\"\n[catalog]\npath = \"c.sqlite\"\n\
         [metadata]\npath = \"m.sqlite\"\n[keys]\nthreshold = 3\n"
    );
    let (directory, file) = written(&text);
    let config = load(Some(&file), &[]).expect("needs no HOME when all is set");
    assert_eq!(config.state, directory.path().join("s"));
    assert_eq!(config.storage, Path::new("/objects"));
    assert_eq!(config.catalog, directory.path().join("c.sqlite"));
    assert_eq!(config.metadata, directory.path().join("m.sqlite"));
    assert_eq!(config.threshold, Some(3));
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
        String::from("[trust]\ntls_ca = \"ca.crt\"\n"),
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
