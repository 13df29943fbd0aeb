//! Callers who prove themselves with proxies and tokens instead of a certificate: what they may, and how they are told that
//! a proof is no good.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    time::{SystemTime, UNIX_EPOCH},
};

use eds_tests::{
    Outcome,
    cluster::Cluster,
    grid::Grid,
    issuer::TokenIssuer,
    pki::Credentials,
    sample,
    user::{Run, User, exit},
};
use serde_json::json;

/// A user of the cluster without a certificate.
fn without_certificate(cluster: &Cluster, name: &str) -> Outcome<User> {
    let user = cluster.user(name)?;
    user.forget_certificate()?;
    fs::write(user.home().join("plain"), sample::bytes("content", 20_000))?;
    Ok(user)
}

/// Encrypts as the holder of a proof, and returns the key.
fn encrypt(user: &User, proof: (&str, &str)) -> Outcome<String> {
    let done = user.eds_with(proof, ["encrypt", "plain", "-o", "cipher"])?.success()?;
    Ok(done.key())
}

/// Decrypts the owner's file.
fn decrypt(user: &User, proof: (&str, &str), owner: &User) -> Outcome<Run> {
    let cipher = owner.home().join("cipher");
    let words = ["decrypt".as_ref(), cipher.as_os_str(), "-o".as_ref(), "back".as_ref(), "--force".as_ref()];
    user.eds_with(proof, words)
}

fn assert_reads(user: &User, proof: (&str, &str), owner: &User) -> Outcome {
    decrypt(user, proof, owner)?.success()?;
    assert_eq!(fs::read(user.home().join("back"))?, sample::bytes("content", 20_000));
    Ok(())
}

#[test]
fn a_proxy_registers_and_its_voms_groups_open_what_is_shared_with_them() -> Outcome {
    let mut cluster = Cluster::of_three()?;
    let grid = Grid::new(&cluster.folder().join("grid"))?;
    cluster.configure(&grid.settings())?;
    let (alice, bob) = (without_certificate(&cluster, "alice")?, without_certificate(&cluster, "bob")?);
    let proxy = |name: &str, groups: &[&str], more: &[&str]| {
        grid.proxy(name, groups, more).map(|file| file.display().to_string())
    };
    const VARIABLE: &str = "X509_USER_PROXY";
    let physician = proxy("alice", &["/myvo/radiology/Role=physician", "/myvo"], &[])?;
    let key = encrypt(&alice, (VARIABLE, &physician))?;
    assert_reads(&alice, (VARIABLE, &physician), &alice)?;
    // With her own certificate she is the same person; what a variable names is sent before what her configuration names.
    let person = Credentials::read(&grid.person("alice"))?;
    let herself = cluster.user_with("alice herself", &person)?;
    assert_reads(&herself, ("EDS_PROOF", "certificate"), &alice)?;
    decrypt(&herself, (VARIABLE, "/nowhere"), &alice)?.refused(exit::NOT_FOUND, &["/nowhere"])?;
    herself.eds_with((VARIABLE, "/nowhere"), ["--proof", "certificate", "key", "acl", &key])?.success()?;
    herself.eds_with((VARIABLE, &physician), ["--proof", "proxy", "key", "acl", &key])?.success()?;
    herself
        .eds_with(("EDS_PROOF", "token"), ["key", "acl", &key])?
        .refused(exit::DENIED, &["no token", "eds login"])?;

    let said = alice.eds_with((VARIABLE, &physician), ["whoami"])?.success()?.text();
    let subject = "/DC=org/DC=example/OU=people/CN=Alice Radiologist";
    for line in [
        format!("proof      proxy {physician}"),
        format!("subject    {subject}"),
        "authority  /DC=org/DC=example/CN=Test CA".into(),
        "group      /myvo/radiology/Role=physician\ngroup      /myvo\n".into(),
    ] {
        assert!(said.contains(&line), "{line}: {said}");
    }
    assert_eq!(said.matches(&format!("  takes you for {subject}\n")).count(), 3, "{said}");
    assert_eq!(said.matches("groups /myvo/radiology/Role=physician /myvo; may register keys").count(), 3, "{said}");
    let said = herself.eds_with((VARIABLE, &physician), ["whoami"])?.success()?.text();
    let certificate = herself.home().join("me.crt").display().to_string();
    assert!(said.contains(&format!("proof      proxy {physician}\n")), "{said}");
    assert!(said.contains(&format!("not sent   certificate {certificate}")), "{said}");
    assert_eq!(said.matches("groups /myvo/radiology/Role=physician /myvo; may register keys").count(), 3, "{said}");
    let said = herself.eds_with((VARIABLE, &physician), ["--proof", "certificate", "whoami"])?.success()?.text();
    assert!(said.contains(&format!("proof      certificate {certificate}")), "{said}");
    assert_eq!(said.matches("groups none; may register keys").count(), 3, "{said}");

    let member = proxy("bob", &["/myvo/radiology/Role=NULL/Capability=NULL"], &[])?;
    decrypt(&bob, (VARIABLE, &member), &alice)?.refused(exit::DENIED, &["0 of the"])?;
    alice.eds_with((VARIABLE, &physician), ["key", "setacl", "-m", "/myvo/radiology:lg", &key])?.success()?;
    assert_reads(&bob, (VARIABLE, &member), &alice)?;
    let outsider = proxy("bob", &["/myvo"], &["-path-length", "1"])?;
    decrypt(&bob, (VARIABLE, &outsider), &alice)?.refused(exit::DENIED, &["lacks the permission"])?;

    // What is wrong is told before anything is sent, and what to do.
    let over = proxy("bob", &["/myvo/radiology"], &["-pastproxy", "20:0"])?;
    let words = ["the proxy of /DC=org/DC=example/OU=people/CN=Bob Researcher from ", "expired on", "voms-proxy-init"];
    decrypt(&bob, (VARIABLE, &over), &alice)?.refused(exit::DENIED, &words)?;
    decrypt(&bob, (VARIABLE, "/nowhere"), &alice)?.refused(exit::NOT_FOUND, &["/nowhere"])?;
    fs::set_permissions(&member, fs::Permissions::from_mode(0o644))?;
    decrypt(&bob, (VARIABLE, &member), &alice)?.refused(exit::USAGE, &["may be read by others", "chmod 600"])?;
    // The nodes believe no server for groups of another VO, and say so.
    let foreign = proxy("bob", &["/othervo/x"], &["-bits", "2048"])?;
    decrypt(&bob, (VARIABLE, &foreign), &alice)?.refused(exit::DENIED, &["node 1", "refused"])?;
    Ok(())
}

#[test]
fn a_token_registers_and_its_groups_open_what_is_shared_with_them() -> Outcome {
    let mut cluster = Cluster::of_three()?;
    let issuer = TokenIssuer::start(cluster.folder())?;
    cluster.configure(&issuer.settings())?;
    let (alice, bob) = (without_certificate(&cluster, "alice")?, without_certificate(&cluster, "bob")?);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let token = |subject: &str, groups: &[&str], audience: &str, left: i64| {
        let expires = i64::try_from(now).unwrap_or(0) + left;
        issuer.token(json!({"sub": subject, "aud": audience, "exp": expires, "wlcg.groups": groups}))
    };
    const VARIABLE: &str = "BEARER_TOKEN";
    let hers = token("alice", &[], "eds", 3600)?;
    let key = encrypt(&alice, (VARIABLE, &hers))?;
    assert_reads(&alice, (VARIABLE, &hers), &alice)?;
    let member = token("bob", &["/vo/ward"], "eds", 3600)?;
    decrypt(&bob, (VARIABLE, &member), &alice)?.refused(exit::DENIED, &["0 of the"])?;
    alice.eds_with((VARIABLE, &hers), ["key", "setacl", "-m", "/vo/ward:lg", &key])?.success()?;
    assert_reads(&bob, (VARIABLE, &member), &alice)?;
    decrypt(&bob, (VARIABLE, &token("bob", &["/vo"], "eds", 3600)?), &alice)?
        .refused(exit::DENIED, &["lacks the permission"])?;

    // From a file, which must be the user's alone.
    let file = bob.home().join("token");
    fs::write(&file, format!("{member}\n"))?;
    let name = file.display().to_string();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644))?;
    decrypt(&bob, ("BEARER_TOKEN_FILE", &name), &alice)?.refused(exit::USAGE, &["may be read by others"])?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600))?;
    assert_reads(&bob, ("BEARER_TOKEN_FILE", &name), &alice)?;

    // Refusals: by the client before anything is sent, and by the nodes, in words.
    let over = token("bob", &["/vo/ward"], "eds", -60)?;
    let words = [format!("the token of {}#bob from the variable BEARER_TOKEN expired on", issuer.url())];
    let refused = decrypt(&bob, (VARIABLE, &over), &alice)?.refused(exit::DENIED, &[&words[0], "eds login"])?;
    assert!(!refused.stderr.contains(&over), "the token is shown");
    let elsewhere = token("bob", &["/vo/ward"], "another service", 3600)?;
    let refused = decrypt(&bob, (VARIABLE, &elsewhere), &alice)?
        .refused(exit::DENIED, &["node 1", "meant for another service"])?;
    assert!(!refused.stderr.contains(&elsewhere), "the token is shown");
    decrypt(&bob, (VARIABLE, "password"), &alice)?.refused(exit::USAGE, &["is not a token"])?;
    // One node that believes other issuers is named; two of three leave too few.
    let said = bob.eds_with((VARIABLE, &member), ["whoami"])?.success()?.text();
    assert!(said.contains("audience   eds\ngroup      /vo/ward\n"), "{said}");
    assert_eq!(said.matches("groups /vo/ward; may register keys").count(), 3, "{said}");
    for (number, enough) in [(3, true), (1, false)] {
        let node = cluster.node(number)?;
        let settings = fs::read_to_string(node.config())?;
        fs::write(node.config(), settings.replace("audience = [\"eds\"]", "audience = [\"other\"]"))?;
        node.restart()?;
        let said = bob.eds_with((VARIABLE, &member), ["whoami"])?;
        if enough {
            let said = said.success()?;
            assert!(said.stderr.contains("warning: node 3"), "{said:?}");
        } else {
            let words = ["1 of the 2 key servers needed", "node 1", "node 3", "meant for another service"];
            said.failed(exit::DENIED, &words)?;
        }
    }
    // Without any, it is told where one is looked for.
    let nothing = ["--proof", "certificate", "encrypt", "plain", "-o", "other"];
    bob.eds_with((VARIABLE, &member), nothing)?.refused(exit::DENIED, &["no certificate", "[identity]"])?;
    Ok(())
}
