//! What a file may say, and that all that is wrong with it is told.

use super::*;
use crate::policy::node::{Create, Party};

const GOOD: &str = r#"listen = "127.0.0.1:7443"

[cluster]
directory = "cluster.edd"
fingerprint = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"

[tls]
certificate = "tls/node.pem"
key = "tls/node.key"
client_ca = "/etc/eds/client-ca.pem"

[hsm]
module = "/usr/lib/softhsm/libsofthsm2.so"
token = "eds-node-1"
pin_file = "pin"

[store]
path = "keys.db"

[node]
identity = "node.json"
"#;

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(Path::new("/srv/eds/node.toml"), text)
}

#[test]
fn paths_are_relative_to_the_file_and_limits_have_defaults() {
    let config = parse(GOOD).expect("a good file");
    assert_eq!(config.store, StoreConfig::Sqlite("/srv/eds/keys.db".into()));
    assert_eq!(config.tls.key, Path::new("/srv/eds/tls/node.key"));
    assert_eq!(config.tls.client_ca.as_deref(), Some(Path::new("/etc/eds/client-ca.pem")));
    assert_eq!(config.cluster.fingerprint[..4], [0x00, 0x11, 0x22, 0x33]);
    assert_eq!((config.hsm.threads, config.hsm.deadline), (2, Duration::from_secs(5)));
}

#[test]
fn the_example_of_the_package_is_understood() {
    let config = Config::parse(Path::new("/etc/eds-keystored/node.toml"), include_str!("../../packaging/node.toml"))
        .unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(config.hsm.pin, PinSource::Credential("hsm-pin".into()));
    assert_eq!(config.store, StoreConfig::Sqlite("/var/lib/eds-keystored/keys.db".into()));
}

#[test]
fn every_setting_is_documented() {
    let document = include_str!("../../../docs/keystore.md");
    let (_, settings) = document.split_once("\n### Settings\n").expect("the section");
    let (settings, _) = settings.split_once("\n## ").expect("the section after");
    let (settings, limits) = settings.split_once("\n### Limits\n").expect("the limits");
    let mut documented = 0;
    for section in ["cluster", "tls", "hsm", "store", "node", "audit", "policy", "limits", "metrics", "authn"] {
        // A key like no other: the hint lists all that are known.
        let error = parse(&format!("[{section}]\nqqqqqqqqqqqqqqqq = 1\n")).expect_err("an unknown key").to_string();
        let (_, known) = error.split_once(&format!("known in [{section}]: ")).unwrap_or_else(|| panic!("{error}"));
        for key in known.lines().next().unwrap_or_default().split(", ") {
            let (table, name) = if section == "limits" {
                (limits, format!("`{key}`"))
            } else {
                (settings, format!("`{section}.{key}`"))
            };
            assert!(table.contains(&name), "{name} is not documented");
            documented += 1;
        }
    }
    assert!(settings.contains("`listen`") && documented > 40, "{documented}");
}

#[test]
fn a_token_may_be_named_by_a_uri() {
    let uri = "uri = \"pkcs11:token=eds%2D1;serial=2f?pin-source=credential:hsm-pin\"";
    let text = GOOD.replace("token = \"eds-node-1\"", uri).replace("pin_file = \"pin\"\n", "");
    let hsm = parse(&text).expect("a good file").hsm;
    assert_eq!((hsm.token.as_str(), hsm.serial.as_deref()), ("eds-1", Some("2f")));
    assert_eq!(hsm.pin, PinSource::Credential("hsm-pin".into()));
    assert_eq!(hsm.module, Path::new("/usr/lib/softhsm/libsofthsm2.so"));
}

#[test]
fn every_error_names_its_line_and_has_a_hint() {
    for (from, to, line) in [
        ("127.0.0.1:7443", "localhost", 1),
        ("[cluster]", "[clutser]", 3),
        ("fingerprint = \"0011", "fingerprint = \"11", 5),
        ("client_ca", "client_cas", 10),
        ("client_ca = \"/etc/eds/client-ca.pem\"\n", "", 7),
        ("certificate = \"tls/node.pem\"", "certificate = \"\"", 8),
        ("certificate = \"tls/node.pem\"", "certificate = 8", 8),
        ("listen = \"127.0.0.1:7443\"", "listen = 127.0.0.1:7443", 1),
        ("[node]", "[authn]\nclock_skew_s = -1\n\n[node]", 21),
        ("[node]", "[audit]\nprocess = \"a/b\"\n\n[node]", 21),
        ("token = \"eds-node-1\"", "token = \"\"", 14),
        ("token = \"eds-node-1\"", "", 12),
        ("token = \"eds-node-1\"", "uri = \"pkcs11:token=a?pin-value=1\"", 14),
        ("token = \"eds-node-1\"", "uri = \"pkcs11:token=a?pin-source=file:/pin\"", 14),
        ("pin_file = \"pin\"", "pin_file = \"pin\"\nthreads = 0", 16),
        ("pin_file = \"pin\"", "pin_file = \"pin\"\ndeadline_ms = 9", 16),
        ("pin_file = \"pin\"", "pin_file = \"pin\"\ngive_up_ms = 1", 16),
        ("pin_file = \"pin\"", "pin_file = \"pin\"\nsuite = \"aes-ecb\"", 16),
        ("pin_file = \"pin\"", "pin = \"1234\"", 15),
        ("path = \"keys.db\"", "path = \"keys.db\"\npostgres = \"host=/run\"", 19),
        ("path = \"keys.db\"", "path = \"keys.db\"\nconnections = 2", 17),
        ("path = \"keys.db\"", "postgres = \"host=/run\"\nconnections = 0", 19),
        ("[store]\npath = \"keys.db\"", "[store]", 17),
    ] {
        assert!(GOOD.contains(from), "{from} is not in the sample");
        let error = parse(&GOOD.replace(from, to)).expect_err(to);
        let ConfigError::Invalid { faults, .. } = &error else { panic!("{error}") };
        assert!(faults.iter().any(|fault| fault.line == line && !fault.hint.is_empty()), "{error}");
        assert!(error.to_string().starts_with("configuration /srv/eds/node.toml, line "), "{error}");
    }
}

#[test]
fn limits_are_read_and_bounded() {
    assert_eq!(parse(GOOD).expect("a good file").limits, crate::server::Limits::default());
    let text = format!("{GOOD}\n[limits]\nconnections = 100\nidle_ms = 5000\nhead_bytes = 8192\n");
    let limits = parse(&text).expect("a good file").limits;
    assert_eq!((limits.connections, limits.idle, limits.head_bytes), (100, Duration::from_secs(5), 8192));
    for wrong in ["connections = 0", "body_ms = 9", "head_bytes = 100", "bodies_bytes = 1", "speed = 1"] {
        let error = parse(&format!("{GOOD}\n[limits]\n{wrong}\n")).expect_err(wrong).to_string();
        assert!(error.contains("limits.") && error.contains("hint: "), "{error}");
    }
}

#[test]
fn metrics_are_told_on_the_loopback_interface_alone() {
    assert_eq!(parse(GOOD).expect("a good file").metrics, None);
    let with = |listen: &str| parse(&format!("{GOOD}\n[metrics]\nlisten = {listen:?}\n"));
    assert_eq!(with("[::1]:9464").expect("a good file").metrics, "[::1]:9464".parse().ok());
    for wrong in ["0.0.0.0:9464", "192.0.2.1:9464", "localhost:9464", "127.0.0.1"] {
        let error = with(wrong).expect_err(wrong).to_string();
        assert!(error.contains("metrics.listen") && error.contains("hint: "), "{error}");
    }
}

#[test]
fn officers_are_named_with_their_authority_or_as_a_group() {
    let policy = parse(GOOD).expect("a good file").policy;
    assert_eq!(policy, NodePolicy::default(), "without a section, everybody may register and nobody administers");
    let section = r#"
[policy]
admins = [
  "/acme/Role=security/Capability=NULL",
  { issuer = "/O=Ward/CN=CA", subject = "/O=Ward/CN=Officer" },
  { issuer = "https://id.example", subject = "42" },
]
couriers = ["/acme/Role=courier", { issuer = "/O=Ward/CN=CA", subject = "/O=Ward/CN=Cart 3" }]
create = ["/acme"]
"#;
    let policy = parse(&format!("{GOOD}{section}")).expect("a good file").policy;
    let text = |text: &str| text.to_owned();
    let expected = [
        Party::Group(text("/acme/Role=security")),
        Party::Certificate { issuer: text("/O=Ward/CN=CA"), subject: text("/O=Ward/CN=Officer") },
        Party::Token { issuer: text("https://id.example"), subject: text("42") },
    ];
    assert_eq!((policy.administrators, policy.create), (expected.to_vec(), Create::Groups(vec![text("/acme")])));
    let couriers = [
        Party::Group(text("/acme/Role=courier")),
        Party::Certificate { issuer: text("/O=Ward/CN=CA"), subject: text("/O=Ward/CN=Cart 3") },
    ];
    assert_eq!(policy.couriers, couriers);
    for (create, expected) in [("[\"any\"]", Create::Anybody), ("[]", Create::Groups(Vec::new()))] {
        let policy = parse(&format!("{GOOD}\n[policy]\ncreate = {create}\n")).expect("a good file").policy;
        assert_eq!(policy.create, expected);
    }
    for wrong in [
        r#"admins = ["/O=Ward/CN=Officer"]"#,
        r#"admins = [{ subject = "/O=Ward/CN=Officer" }]"#,
        r#"admins = [{ issuer = "/O=Ward/CN=CA", subject = "/O=a\\x2Fb" }]"#,
        r#"admins = [{ issuer = "CA", subject = "/O=Ward/CN=Officer" }]"#,
        r#"admins = [{ issuer = "https://id.example", subject = "" }]"#,
        r#"couriers = ["/O=Ward/CN=Cart 3"]"#,
        r#"create = ["/CN=anyone"]"#,
        r#"creators = []"#,
    ] {
        let error = parse(&format!("{GOOD}\n[policy]\n{wrong}\n")).expect_err(wrong).to_string();
        assert!(error.contains("line 24") && error.contains("hint: "), "{error}");
    }
}

#[test]
fn every_error_of_a_file_is_told_at_once() {
    let text = GOOD
        .replace("listen = \"127.0.0.1:7443\"", "listen = 7443\nverbose = \"x\"")
        .replace("\"0011", "\"11")
        .replace("client_ca =", "client_caa =")
        .replace("pin_file", "pinfile")
        .replace("[store]\npath = \"keys.db\"\n", "[audit]\ncheckpoint_s = \"60\"\n\n[polici]\n");
    let error = parse(&text).expect_err("much is wrong");
    let ConfigError::Invalid { faults, .. } = &error else { panic!("{error}") };
    let told: Vec<_> = faults.iter().map(|fault| (fault.line, fault.message.as_str(), fault.hint.as_ref())).collect();
    let docs = "docs/keystore.md lists every section and key, with an example";
    let authorities =
        "name the PEM file of the authorities whose client certificates are accepted, or authn.ca_directory";
    let token = "name the token by hsm.uri, or by hsm.module, hsm.token and hsm.pin_file";
    let expected = [
        (1, "store: missing", docs),
        (1, "listen: is of type integer", "give a string in quotes"),
        (
            2,
            "verbose: unknown key",
            "known here: listen, cluster, tls, hsm, store, node, authn, audit, policy, limits, metrics",
        ),
        (6, "cluster.fingerprint: not 64 hexadecimal digits", "`eds cluster show` prints the fingerprint"),
        (8, "tls.client_ca: missing", authorities),
        (11, "tls.client_caa: unknown key", "is \"client_ca\" meant?"),
        (13, "hsm.pin_file: missing", token),
        (16, "hsm.pinfile: unknown key", "is \"pin_file\" meant?"),
        (19, "audit.checkpoint_s: is of type string", "give a whole number"),
        (21, "polici: unknown section", "is \"policy\" meant?"),
    ];
    assert_eq!(told, expected, "{error}");
}

#[test]
fn files_are_known_although_the_rest_is_wrong() {
    let text = GOOD.replace("listen = \"127.0.0.1:7443\"", "listen = ").replace("token = \"eds-node-1\"", "");
    let reading = Reading::of(Path::new("/srv/eds/node.toml"), &text);
    assert!(reading.config.is_none());
    let pin = reading.named.iter().find(|named| named.role == Role::Secret).expect("the PIN");
    assert_eq!((pin.key.as_str(), pin.line, pin.path.as_path()), ("hsm.pin_file", 15, Path::new("/srv/eds/pin")));
    assert_eq!(reading.named.len(), 8, "{:?}", reading.named);
    assert_eq!(reading.fingerprint.map(|bytes| bytes[1]), Some(0x11));
}

#[test]
fn a_missing_file_is_named() {
    let error = Config::load(Path::new("/nonexistent/node.toml")).expect_err("there is none");
    assert!(error.to_string().contains("/nonexistent/node.toml"), "{error}");
}
