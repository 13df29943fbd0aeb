//! The logs of key servers after a busy day: JSON, with the ids of requests, keys and nodes, and nobody's name.

use std::{
    collections::BTreeSet,
    fs,
    time::{SystemTime, UNIX_EPOCH},
};

use eds_tests::{
    Outcome,
    cluster::{Cluster, Plan},
    dicom, give_up,
    grid::Grid,
    https::Https,
    issuer::TokenIssuer,
    node::PIN,
    sample,
    user::User,
};
use serde_json::{Value, json};

/// Names that stand in no log by chance.
const OWNER: &str = "Zoraida Quintanilla";
const COLLEAGUE: &str = "Bartholomew Ngata";
const WITH_A_TOKEN: &str = "f3a1-tokenholder";

/// A user without a certificate, with something to encrypt.
fn without_certificate(cluster: &Cluster, name: &str) -> Outcome<User> {
    let user = cluster.user(name)?;
    user.forget_certificate()?;
    fs::write(user.home().join("mammography-2031"), sample::bytes("content", 20_000))?;
    Ok(user)
}

/// What the journey did: the keys that it used, and every word that no log may hold.
struct Day {
    keys: BTreeSet<String>,
    never: BTreeSet<String>,
}

/// Registers, shares, reads, is refused, explains, deletes: with a certificate, a proxy, tokens good and bad, and nothing.
fn busy_day(cluster: &mut Cluster) -> Outcome<Day> {
    let grid = Grid::new(&cluster.folder().join("grid"))?;
    let issuer = TokenIssuer::start(cluster.folder())?;
    // One section for both.
    let settings = grid.settings() + &issuer.settings().replace("\n[authn]\n", "");
    for node in cluster.nodes() {
        node.add_settings(&settings)?;
        node.set_variable("EDS_LOG", "trace");
        node.start()?;
    }
    let (owner, colleague) = (cluster.user(OWNER)?, cluster.user(COLLEAGUE)?);
    let mut never: BTreeSet<String> =
        [OWNER, COLLEAGUE, WITH_A_TOKEN, PIN, "mammography-2031"].map(str::to_owned).into();
    never.extend([owner.name()?, colleague.name()?, issuer.url().to_owned() + "#" + WITH_A_TOKEN]);
    never.extend(dicom::CT_PATIENT.map(str::to_owned));
    let mut keys = BTreeSet::new();

    // With certificates: a file and an image, shared, refused, explained, revoked, deleted.
    fs::copy(dicom::ct_small()?, owner.home().join("scan.dcm"))?;
    owner.eds(["register", "scan.dcm"])?.success()?;
    fs::write(owner.home().join("mammography-2031"), sample::bytes("content", 20_000))?;
    let key = owner.eds(["encrypt", "mammography-2031", "-o", "cipher"])?.success()?.key();
    let cipher = owner.home().join("cipher");
    let decrypt = ["decrypt".as_ref(), cipher.as_os_str(), "-o".as_ref(), "back".as_ref(), "--force".as_ref()];
    assert_ne!(colleague.eds(decrypt)?.code, Some(0));
    let entry = format!("{}:lg", colleague.name()?);
    owner.eds(["key", "setacl", "-m", &entry, &key])?.success()?;
    colleague.eds(decrypt)?.success()?;
    assert_ne!(colleague.eds(["key", "setacl", "-m", &format!("{entry}d"), &key])?.code, Some(0));
    owner.eds(["key", "why", &key])?.success()?;
    owner.eds(["key", "setacl", "-d", &colleague.name()?, &key])?.success()?;
    assert_ne!(colleague.eds(decrypt)?.code, Some(0));
    owner.eds(["whoami"])?.success()?;
    owner.eds(["key", "rm", "--yes", &key])?.success()?;
    keys.insert(key);

    // With a proxy that has groups, and with a token; each meets the other's key.
    let grid_user = without_certificate(cluster, "grid user")?;
    let proxy = grid.proxy("alice", &["/myvo/radiology/Role=physician"], &[])?.display().to_string();
    let with_proxy = ("X509_USER_PROXY", proxy.as_str());
    let key = grid_user.eds_with(with_proxy, ["encrypt", "mammography-2031", "-o", "cipher"])?.success()?.key();
    grid_user.eds_with(with_proxy, ["key", "setacl", "-m", "/myvo/radiology:lg", &key])?.success()?;
    never
        .extend(["Alice Radiologist", "CN=Alice", "OU=people", "Role=physician", "/myvo/radiology"].map(str::to_owned));
    keys.insert(key.clone());

    let holder = without_certificate(cluster, "token holder")?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let token = |audience: &str| {
        let groups = ["/vo/oncology-board"];
        issuer.token(json!({"sub": WITH_A_TOKEN, "aud": audience, "exp": now + 3600, "wlcg.groups": groups}))
    };
    let (good, elsewhere) = (token("eds")?, token("elsewhere")?);
    let with_token = ("BEARER_TOKEN", good.as_str());
    let own = holder.eds_with(with_token, ["encrypt", "mammography-2031", "-o", "cipher"])?.success()?.key();
    holder.eds_with(with_token, ["key", "acl", &own])?.success()?;
    keys.insert(own);
    holder.eds_with(with_token, ["whoami"])?.success()?;
    assert_ne!(holder.eds_with(with_token, ["key", "acl", &key])?.code, Some(0));
    assert_ne!(holder.eds_with(("BEARER_TOKEN", &elsewhere), ["key", "acl", &key])?.code, Some(0));
    never.insert("oncology-board".to_owned());
    for token in [&good, &elsewhere] {
        never.extend(token.split('.').map(str::to_owned));
    }

    // Nobody, a stranger to all authorities, and what is no request.
    let client = Https::of(cluster, None)?;
    for node in cluster.nodes() {
        let url = node.url();
        assert_eq!(client.get(&url, "/v1/whoami?name=Zoraida%20Quintanilla")?.status, 401);
        assert_eq!(client.get(&url, "/patients/CompressedSamples")?.status, 404);
    }
    for node in cluster.nodes() {
        node.stop()?;
    }
    Ok(Day { keys, never })
}

#[test]
fn the_log_of_a_busy_day_holds_ids_and_nobodys_name() -> Outcome {
    let mut cluster = Cluster::make(Plan { nodes: 2, floor: 1, relayed: &[] })?;
    let day = busy_day(&mut cluster)?;
    for node in cluster.nodes() {
        let log = fs::read_to_string(node.log())?;
        let lower = log.to_lowercase();
        for word in &day.never {
            if let Some(at) = lower.find(&word.to_lowercase()) {
                let line = lower.get(..at).map_or(0, |before| before.matches('\n').count());
                give_up!(
                    "the log of node {} says {word:?}: {}",
                    node.number,
                    log.lines().nth(line).unwrap_or_default()
                );
            }
        }

        // It is the log of that day, to its last detail.
        let mut requests = BTreeSet::new();
        let mut levels = BTreeSet::new();
        for line in log.lines().filter(|line| !line.starts_with("listening on ")) {
            let line: Value = serde_json::from_str(line)?;
            levels.insert(line["level"].as_str().unwrap_or_default().to_owned());
            if line["message"] == "answered" {
                requests.insert(line["span"]["id"].as_str().unwrap_or_default().to_owned());
            }
            // Whoever was refused, it is nothing that a person must look at.
            assert_ne!(line["level"], "ERROR", "{line}");
        }
        assert!(requests.len() > 20 && requests.iter().all(|id| id.len() == 32), "{requests:?}");
        assert!(levels.contains("DEBUG"), "{levels:?}");
        for key in &day.keys {
            assert!(log.contains(key), "key {key} is not in the log of node {}", node.number);
        }
    }
    Ok(())
}
