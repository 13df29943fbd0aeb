//! `eds login`: a token by a code that is entered on another device, used, renewed, and given back; and issuers that are not
//! what they should be.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use eds_tests::{
    Outcome, Trouble,
    cluster::Cluster,
    files,
    issuer::{
        TokenIssuer,
        device::{Document, Step, USER_CODE},
    },
    pki::Authority,
    user::{User, exit},
};
use serde_json::{Value, json};

/// A user without a certificate, who may log in at the issuer.
fn visitor(cluster: &Cluster, issuer: &TokenIssuer, ca: &str) -> Outcome<User> {
    let user = cluster.user("visitor")?;
    user.forget_certificate()?;
    user.add_settings(&format!("\n[login]\nissuer = {:?}\nclient_id = \"eds\"\nca = {ca:?}\n", issuer.url()))?;
    fs::write(user.home().join("plain"), "something")?;
    Ok(user)
}

fn claims() -> Value {
    json!({"sub": "visitor", "aud": "eds", "wlcg.groups": ["/vo/ward"]})
}

/// The file of the login.
fn session(user: &User) -> Outcome<PathBuf> {
    let names = files::names(&user.state())?;
    let name = names.iter().find(|name| name.starts_with("login-") && name.ends_with(".json"));
    Ok(user.state().join(name.ok_or_else(|| Trouble::new(format!("no login in {names:?}")))?))
}

/// Puts a token that has ended in the place of the kept one; what renews it stays.
fn let_end(user: &User, issuer: &TokenIssuer) -> Outcome {
    let file = session(user)?;
    let mut kept: Value = serde_json::from_slice(&fs::read(&file)?)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let mut ended = claims();
    ended["exp"] = json!(now - 5);
    kept["access_token"] = json!(issuer.token(ended)?);
    Ok(fs::write(&file, kept.to_string())?)
}

#[test]
fn a_login_gives_a_token_that_is_used_renewed_and_given_back() -> Outcome {
    let mut cluster = Cluster::of_three()?;
    let issuer = TokenIssuer::start(cluster.folder())?;
    cluster.configure(&issuer.settings())?;
    let user = visitor(&cluster, &issuer, &issuer.ca().display().to_string())?;
    let encrypt = ["--proof", "token", "encrypt", "plain", "-o", "cipher", "--force"];
    user.eds(encrypt)?.refused(exit::DENIED, &["no token", "eds login"])?;

    issuer.script(&[Step::Pending, Step::SlowDown, Step::Grant], claims(), 3600, true);
    let begun = Instant::now();
    let done = user.eds(["login"])?.success()?;
    // A second, a second, and five more after the issuer asked for that.
    assert!(begun.elapsed() >= Duration::from_secs(8), "{:?}", begun.elapsed());
    for said in [USER_CODE, "/activate", "10 minutes", &format!("logged in as {}#visitor", issuer.url())] {
        assert!(done.stderr.contains(said), "{said}: {done:?}");
    }
    let file = session(&user)?;
    assert_eq!(fs::metadata(&file)?.permissions().mode() & 0o777, 0o600);
    let kept = fs::read_to_string(&file)?;
    let token = |kept: &str| Ok::<_, Trouble>(serde_json::from_str::<Value>(kept)?["access_token"].to_string());
    assert!(!done.stderr.contains(token(&kept)?.trim_matches('"')) && done.stdout.is_empty(), "{done:?}");
    user.eds(encrypt)?.success()?;
    user.eds(["decrypt", "cipher", "-o", "back"])?.success()?;
    assert_eq!(fs::read_to_string(&file)?, kept, "renewed before its time");

    // When the token ends it is renewed, and the refresh token, which is good once, is replaced.
    let_end(&user, &issuer)?;
    user.eds(encrypt)?.success()?;
    let renewed = fs::read_to_string(&file)?;
    assert!(renewed.contains("refresh-2") && !renewed.contains("refresh-1"), "not renewed");
    assert_eq!(fs::metadata(&file)?.permissions().mode() & 0o777, 0o600);

    // Not for somebody else.
    let_end(&user, &issuer)?;
    issuer.script(&[], json!({"sub": "somebody else", "aud": "eds"}), 3600, true);
    user.eds(encrypt)?.refused(exit::DAMAGED, &["another subject"])?;
    // An issuer that forgot the login ends it; one that is away does not.
    issuer.forget();
    issuer.answer(false);
    user.eds(encrypt)?.refused(exit::UNAVAILABLE, &["openid-configuration", "cannot be reached"])?;
    issuer.answer(true);
    user.eds(encrypt)?.refused(exit::DENIED, &["has ended", "hint: log in again: eds login"])?;

    issuer.script(&[Step::Grant], claims(), 3600, true);
    user.eds(["login"])?.success()?;
    user.eds(encrypt)?.success()?;
    assert!(issuer.remembers());
    let out = user.eds(["logout"])?.success()?;
    assert!(out.stderr.contains("logged out") && !file.exists() && !issuer.remembers(), "{out:?}");
    user.eds(encrypt)?.refused(exit::DENIED, &["no token"])?;
    assert!(user.eds(["logout"])?.success()?.stderr.contains("nobody was logged in"));
    Ok(())
}

#[test]
fn what_is_wrong_with_a_login_is_told_and_nothing_is_kept() -> Outcome {
    let cluster = Cluster::make(eds_tests::cluster::Plan { nodes: 1, floor: 1, relayed: &[] })?;
    let issuer = TokenIssuer::start(cluster.folder())?;
    let user = visitor(&cluster, &issuer, &issuer.ca().display().to_string())?;
    let refused = |code: i32, words: &[&str]| -> Outcome {
        user.eds(["login"])?.refused(code, words)?;
        assert!(session(&user).is_err(), "something was kept");
        Ok(())
    };
    issuer.script(&[Step::Deny], claims(), 3600, false);
    refused(exit::DENIED, &["the login was denied at the issuer"])?;
    issuer.script(&[Step::Pending, Step::Expire], claims(), 3600, false);
    refused(exit::DENIED, &["the code was not entered in time", "hint: log in again: eds login"])?;
    issuer.script(&[Step::Grant], claims(), -10, false);
    refused(exit::DAMAGED, &["it has ended already"])?;
    issuer.show(Document::OfAnother);
    refused(exit::DAMAGED, &["is that of the issuer \"https://id.example\"", "exactly"])?;
    issuer.show(Document::WithoutDevice);
    refused(exit::USAGE, &["offers no login on another device"])?;
    issuer.show(Document::WithoutTls);
    refused(exit::UNAVAILABLE, &["without https"])?;
    issuer.show(Document::Right);
    assert!(!issuer.asked().contains(&"/revoke".to_owned()));

    // A server of another authority is not talked to, and without an issuer there is nothing to do.
    let asked = issuer.asked().len();
    let other = cluster.folder().join("other.pem");
    Authority::new("another CA")?.write(&other)?;
    let settings = fs::read_to_string(user.config())?;
    let ca = format!("{:?}", issuer.ca().display().to_string());
    fs::write(user.config(), settings.replace(&ca, &format!("{:?}", other.display().to_string())))?;
    refused(exit::UNAVAILABLE, &["cannot be reached", "UnknownIssuer"])?;
    assert_eq!(issuer.asked().len(), asked);
    fs::write(user.config(), settings.split("[login]").next().unwrap_or_default())?;
    refused(exit::USAGE, &["names no token issuer", "[login]"])
}
