//! Bearer tokens: every rule, and the life of an issuer's keys.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, OnceLock},
    time::{Duration, Instant},
};

use aws_lc_rs::{
    rand::SystemRandom,
    rsa::KeySize,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, KeyPair, RSA_PKCS1_SHA256,
        RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256, RSA_PSS_SHA384, RSA_PSS_SHA512, RsaKeyPair,
    },
};
use base64ct::{Base64UrlUnpadded, Encoding};
use eds_keystore::authn::jwt::{
    Algorithm, GroupRule, Issuer, KeySet, Profile, Proven, Refusal, Token,
    issuers::{
        FAILURE_PAUSE, Fetch, FetchError, Fetching, IssuerError, Issuers, KEEP_FOR, REFRESH_AFTER, UNKNOWN_KEY_PAUSE,
        WAITING,
    },
    verify,
};
use serde_json::{Value, json};

use crate::{
    forge::NOW,
    mutation::{Random, rounds},
};

const URL: &str = "https://login.example.org/realms/hospital";

fn base64(bytes: impl AsRef<[u8]>) -> String {
    Base64UrlUnpadded::encode_string(bytes.as_ref())
}

/// The test's keys: making RSA keys takes long, so once.
struct Keys {
    rsa: RsaKeyPair,
    p256: EcdsaKeyPair,
    p384: EcdsaKeyPair,
}

fn keys() -> &'static Keys {
    static KEYS: OnceLock<Keys> = OnceLock::new();
    KEYS.get_or_init(|| Keys {
        rsa: RsaKeyPair::generate(KeySize::Rsa2048).expect("a key"),
        p256: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key"),
        p384: EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).expect("a key"),
    })
}

fn rsa_jwk(id: &str) -> Value {
    let public = keys().rsa.public_key();
    let (n, e) =
        (public.modulus().big_endian_without_leading_zero(), public.exponent().big_endian_without_leading_zero());
    json!({"kty": "RSA", "kid": id, "use": "sig", "n": base64(n), "e": base64(e)})
}

fn ec_jwk(id: &str, curve: &str, pair: &EcdsaKeyPair) -> Value {
    let point = &pair.public_key().as_ref()[1..];
    let (x, y) = point.split_at(point.len() / 2);
    json!({"kty": "EC", "kid": id, "crv": curve, "x": base64(x), "y": base64(y)})
}

fn key_set(keys: &[Value]) -> KeySet {
    KeySet::parse(json!({ "keys": keys }).to_string().as_bytes()).expect("a key set")
}

fn all_keys() -> KeySet {
    key_set(&[rsa_jwk("rsa"), ec_jwk("p256", "P-256", &keys().p256), ec_jwk("p384", "P-384", &keys().p384)])
}

fn sign(algorithm: &str, message: &[u8]) -> Vec<u8> {
    let random = SystemRandom::new();
    let rsa = |padding| {
        let mut signature = vec![0; keys().rsa.public_modulus_len()];
        keys().rsa.sign(padding, &random, message, &mut signature).expect("a signature");
        signature
    };
    match algorithm {
        "RS256" => rsa(&RSA_PKCS1_SHA256),
        "RS384" => rsa(&RSA_PKCS1_SHA384),
        "RS512" => rsa(&RSA_PKCS1_SHA512),
        "PS256" => rsa(&RSA_PSS_SHA256),
        "PS384" => rsa(&RSA_PSS_SHA384),
        "PS512" => rsa(&RSA_PSS_SHA512),
        "ES256" => keys().p256.sign(&random, message).expect("a signature").as_ref().to_vec(),
        "ES384" => keys().p384.sign(&random, message).expect("a signature").as_ref().to_vec(),
        "HS256" => {
            // The classic confusion: HMAC with the public key as its secret.
            let public = rsa_jwk("rsa").to_string();
            let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, public.as_bytes());
            aws_lc_rs::hmac::sign(&key, message).as_ref().to_vec()
        }
        _ => Vec::new(),
    }
}

fn raw(header: &str, claims: &str, by: &str) -> String {
    let signed = format!("{}.{}", base64(header), base64(claims));
    let signature = sign(by, signed.as_bytes());
    format!("{signed}.{}", base64(signature))
}

fn token(algorithm: &str, id: &str, claims: &Value) -> String {
    raw(&json!({"alg": algorithm, "kid": id, "typ": "JWT"}).to_string(), &claims.to_string(), algorithm)
}

fn claims() -> Value {
    json!({
        "iss": URL, "sub": "alice", "aud": "eds", "exp": NOW + 600, "nbf": NOW - 10, "iat": NOW - 10, "jti": "1",
        "wlcg.ver": "1.0", "wlcg.groups": ["/myvo/radiology", "/myvo"],
    })
}

/// The claims with one of them replaced, or left out.
fn with(name: &str, value: impl Into<Option<Value>>) -> Value {
    let mut claims = claims();
    let members = claims.as_object_mut().expect("an object");
    match value.into() {
        Some(value) => _ = members.insert(name.into(), value),
        None => _ = members.remove(name),
    }
    claims
}

fn issuer() -> Issuer {
    Issuer {
        url: URL.into(),
        audiences: vec!["eds".into(), "https://wlcg.cern.ch/jwt/v1/any".into()],
        algorithms: Algorithm::DEFAULT.to_vec(),
        profile: Profile::Wlcg,
        skew: 60,
        max_lifetime: None,
        groups: Some(GroupRule { claim: "wlcg.groups".into(), prefix: "/myvo".into(), relative: false }),
    }
}

fn judge(text: &str, issuer: &Issuer) -> Result<Proven, Refusal> {
    verify(&Token::parse(text)?, issuer, &all_keys(), NOW)
}

fn judge_claims(claims: &Value) -> Result<Proven, Refusal> {
    judge(&token("ES256", "p256", claims), &issuer())
}

#[test]
fn a_wlcg_token_proves_its_subject_and_its_groups_in_order() {
    let proven = judge_claims(&claims()).expect("good");
    assert_eq!((proven.issuer.as_str(), proven.subject.as_str()), (URL, "alice"));
    assert_eq!(proven.groups, ["/myvo/radiology", "/myvo"]);
    assert_eq!((proven.id.as_deref(), proven.key.as_str()), (Some("1"), "ES256 p256"));
    assert_eq!(proven.valid_until, NOW + 659);
}

#[test]
fn all_algorithms_verify_and_only_those_of_the_list_count() {
    let mut generous = issuer();
    generous.algorithms = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384"]
        .into_iter()
        .map(|name| Algorithm::by_name(name).expect("known"))
        .collect();
    for (name, key) in [
        ("RS256", "rsa"),
        ("RS384", "rsa"),
        ("RS512", "rsa"),
        ("PS256", "rsa"),
        ("PS384", "rsa"),
        ("PS512", "rsa"),
        ("ES256", "p256"),
        ("ES384", "p384"),
    ] {
        let text = token(name, key, &claims());
        judge(&text, &generous).expect(name);
        let listed = issuer().algorithms.contains(&Algorithm::by_name(name).expect("known"));
        assert_eq!(judge(&text, &issuer()).err(), if listed { None } else { Some(Refusal::Algorithm) }, "{name}");
    }
}

#[test]
fn no_algorithm_and_hmac_cannot_be_had() {
    for name in ["none", "None", "NONE", "HS256", "HS384", "", "rs256", "EdDSA", "ES256K"] {
        assert_eq!(Algorithm::by_name(name), None);
        let text = token(name, "rsa", &claims());
        assert_eq!(judge(&text, &issuer()), Err(Refusal::Algorithm), "{name}");
    }
    let unsigned = format!("{}.{}.", base64(r#"{"alg":"none"}"#), base64(claims().to_string()));
    assert_eq!(judge(&unsigned, &issuer()), Err(Refusal::Algorithm));
}

#[test]
fn headers_that_must_be_refused() {
    let claims = claims().to_string();
    for (what, header, wanted) in [
        ("crit", r#"{"alg":"ES256","kid":"p256","crit":["exp"]}"#, Refusal::CriticalHeader),
        ("an empty crit", r#"{"alg":"ES256","kid":"p256","crit":[]}"#, Refusal::CriticalHeader),
        ("a logout token", r#"{"alg":"ES256","kid":"p256","typ":"logout+jwt"}"#, Refusal::Type),
        ("a typ that is no text", r#"{"alg":"ES256","kid":"p256","typ":1}"#, Refusal::Type),
        ("no alg", r#"{"kid":"p256"}"#, Refusal::Header("alg")),
        ("an alg that is no text", r#"{"alg":["ES256"],"kid":"p256"}"#, Refusal::Header("alg")),
        ("a kid that is no text", r#"{"alg":"ES256","kid":1}"#, Refusal::Header("kid")),
        ("alg twice", r#"{"alg":"ES256","alg":"none","kid":"p256"}"#, Refusal::NotJson("header")),
        ("no object", r#"["alg"]"#, Refusal::NotJson("header")),
    ] {
        assert_eq!(judge(&raw(header, &claims, "ES256"), &issuer()), Err(wanted), "{what}");
    }
    for typ in ["JWT", "jwt", "at+jwt", "application/at+jwt"] {
        let header = json!({"alg": "ES256", "kid": "p256", "typ": typ}).to_string();
        judge(&raw(&header, &claims, "ES256"), &issuer()).expect(typ);
    }
}

#[test]
fn claims_that_must_be_refused() {
    let table: Vec<(&str, Value, Refusal)> = vec![
        ("no issuer", with("iss", None), Refusal::UnknownIssuer),
        ("another issuer", with("iss", json!("https://evil.example.org")), Refusal::UnknownIssuer),
        ("the issuer with a slash", with("iss", json!(format!("{URL}/"))), Refusal::UnknownIssuer),
        ("a list of issuers", with("iss", json!([URL])), Refusal::UnknownIssuer),
        ("no subject", with("sub", None), Refusal::Claim("sub")),
        ("an empty subject", with("sub", json!("")), Refusal::Claim("sub")),
        ("a subject that is no text", with("sub", json!(7)), Refusal::Claim("sub")),
        ("a long subject", with("sub", json!("a".repeat(256))), Refusal::Claim("sub")),
        ("no audience", with("aud", None), Refusal::Claim("aud")),
        ("another audience", with("aud", json!("storage")), Refusal::Audience),
        ("other audiences", with("aud", json!(["storage", "eds2"])), Refusal::Audience),
        ("no audiences", with("aud", json!([])), Refusal::Audience),
        ("an audience that is no text", with("aud", json!(["eds", 1])), Refusal::Claim("aud")),
        ("no exp", with("exp", None), Refusal::Claim("exp")),
        ("exp as text", with("exp", json!((NOW + 600).to_string())), Refusal::Claim("exp")),
        ("exp beyond numbers", with("exp", json!(1e300)), Refusal::Claim("exp")),
        ("a negative exp", with("exp", json!(-1)), Refusal::Claim("exp")),
        ("null exp", with("exp", json!(null)), Refusal::Claim("exp")),
        ("expired", with("exp", json!(NOW - 60)), Refusal::Expired),
        ("expired, with a fraction", with("exp", json!((NOW - 60) as f64 + 0.5)), Refusal::Expired),
        ("not yet valid", with("nbf", json!(NOW + 61)), Refusal::NotYetValid),
        ("nbf as text", with("nbf", json!("0")), Refusal::Claim("nbf")),
        ("issued in the future", with("iat", json!(NOW + 61)), Refusal::NotYetValid),
        ("iat of a wrong type", with("iat", json!([])), Refusal::Claim("iat")),
        ("bound to a key", with("cnf", json!({"x5t#S256": "abc"})), Refusal::Bound),
        ("an ID token", with("at_hash", json!("77QmUPtjPfzWtF2AnpK9RQ")), Refusal::NotAccess),
        ("an ID token of the hybrid flow", with("c_hash", json!("LDktKdoQak3Pk0cnXxCltA")), Refusal::NotAccess),
        ("an ID token of Keycloak", with("typ", json!("ID")), Refusal::NotAccess),
        ("a refresh token of Keycloak", with("typ", json!("Refresh")), Refusal::NotAccess),
        ("a kind that is no text", with("typ", json!(["Bearer"])), Refusal::NotAccess),
        (
            "a logout token",
            with("events", json!({"http://schemas.openid.net/event/backchannel-logout": {}})),
            Refusal::NotAccess,
        ),
        ("no WLCG version", with("wlcg.ver", None), Refusal::Claim("wlcg.ver")),
        ("another WLCG version", with("wlcg.ver", json!("2.0")), Refusal::Claim("wlcg.ver")),
        ("a WLCG version that is no text", with("wlcg.ver", json!(1.0)), Refusal::Claim("wlcg.ver")),
        ("no nbf", with("nbf", None), Refusal::Claim("nbf")),
        ("no iat", with("iat", None), Refusal::Claim("iat")),
        ("no jti", with("jti", None), Refusal::Claim("jti")),
        ("a group of another VO", with("wlcg.groups", json!(["/myvo", "/othervo"])), Refusal::Group),
        ("a group that begins alike", with("wlcg.groups", json!(["/myvo2"])), Refusal::Group),
        ("a role", with("wlcg.groups", json!(["/myvo/Role=admin"])), Refusal::Group),
        ("not a group", with("wlcg.groups", json!(["myvo"])), Refusal::Group),
        ("groups as text", with("wlcg.groups", json!("/myvo")), Refusal::Claim("groups")),
        ("groups of numbers", with("wlcg.groups", json!([1])), Refusal::Claim("groups")),
    ];
    for (what, claims, wanted) in table {
        assert_eq!(judge_claims(&claims), Err(wanted), "{what}");
    }
    let twice = claims().to_string().replacen("{", r#"{"sub":"root","#, 1);
    let header = json!({"alg": "ES256", "kid": "p256"}).to_string();
    assert_eq!(judge(&raw(&header, &twice, "ES256"), &issuer()), Err(Refusal::NotJson("claims")));
}

#[test]
fn claims_that_must_be_accepted() {
    for (what, claims) in [
        ("one of several audiences", with("aud", json!(["storage", "eds"]))),
        ("any audience, as configured", with("aud", json!("https://wlcg.cern.ch/jwt/v1/any"))),
        ("within the skew", with("exp", json!(NOW - 59))),
        ("not valid yet, within the skew", with("nbf", json!(NOW + 60))),
        ("exp with a fraction", with("exp", json!(NOW as f64 + 600.5))),
        ("no groups", with("wlcg.groups", None)),
        ("an access token of Keycloak", with("typ", json!("Bearer"))),
        ("version 1.1", with("wlcg.ver", json!("1.1"))),
    ] {
        judge_claims(&claims).expect(what);
    }
}

#[test]
fn a_lifetime_can_be_limited() {
    let limited = Issuer { max_lifetime: Some(610), ..issuer() };
    judge(&token("ES256", "p256", &claims()), &limited).expect("exactly as long");
    assert_eq!(judge(&token("ES256", "p256", &with("exp", json!(NOW + 601))), &limited), Err(Refusal::Lifetime));
    let plain = Issuer { profile: Profile::Oidc, ..limited };
    let mut endless = with("iat", None);
    endless.as_object_mut().expect("an object").remove("nbf");
    assert_eq!(judge(&token("ES256", "p256", &endless), &plain), Err(Refusal::Claim("iat")));
}

#[test]
fn plain_oidc_groups_are_put_below_the_issuers_prefix() {
    let rule = |claim: &str| GroupRule { claim: claim.into(), prefix: "/hospital".into(), relative: true };
    let oidc = |claim: &str| Issuer { profile: Profile::Oidc, groups: Some(rule(claim)), ..issuer() };
    let keycloak = json!({
        "iss": URL, "sub": "f3c2", "aud": "eds", "exp": NOW + 60,
        "groups": ["/radiology", "research", "My Group", "Role=admin", "../myvo", "radiology"],
        "realm_access": {"roles": ["physician"]},
    });
    let text = token("RS256", "rsa", &keycloak);
    assert_eq!(judge(&text, &oidc("groups")).expect("good").groups, ["/hospital/radiology", "/hospital/research"]);
    assert_eq!(judge(&text, &oidc("/realm_access/roles")).expect("good").groups, ["/hospital/physician"]);
    assert!(judge(&text, &oidc("/nothing/here")).expect("good").groups.is_empty());
    assert_eq!(
        judge(&text, &Issuer { groups: None, profile: Profile::Oidc, ..issuer() }).expect("good").groups,
        [""; 0]
    );
}

#[test]
fn key_algorithm_and_kind_must_fit() {
    let mut restricted = rsa_jwk("rsa");
    restricted["alg"] = json!("RS256");
    let mut other_use = rsa_jwk("enc");
    other_use["use"] = json!("enc");
    let mut other_operation = rsa_jwk("ops");
    other_operation["key_ops"] = json!(["encrypt"]);
    let secret = json!({"kty": "oct", "kid": "secret", "k": "AAAA"});
    let mut short = rsa_jwk("short");
    short["n"] = json!(base64(vec![0xff; 128]));
    let mut padded = rsa_jwk("padded");
    padded["n"] = json!(base64([vec![0; 128], vec![0xff; 128]].concat()));
    let set = key_set(&[
        restricted,
        other_use,
        other_operation,
        secret,
        short,
        padded,
        ec_jwk("p256", "P-256", &keys().p256),
    ]);
    assert_eq!(set.len(), 2, "what cannot verify is passed over");
    let judge = |algorithm: &str, id: &str| {
        verify(&Token::parse(&token(algorithm, id, &claims())).expect("a token"), &issuer(), &set, NOW)
    };
    judge("RS256", "rsa").expect("good");
    assert_eq!(judge("PS256", "rsa"), Err(Refusal::OtherKey), "the key is for another algorithm");
    assert_eq!(judge("RS256", "p256"), Err(Refusal::OtherKey), "the key is of another kind");
    assert_eq!(judge("ES384", "p256"), Err(Refusal::OtherKey), "another curve");
    for id in ["enc", "ops", "secret", "short", "padded", "unknown"] {
        assert_eq!(judge("RS256", id), Err(Refusal::UnknownKey), "{id}");
    }
}

#[test]
fn a_token_without_key_id_needs_exactly_one_key_that_fits() {
    let header = json!({"alg": "ES256"}).to_string();
    let parsed = Token::parse(&raw(&header, &claims().to_string(), "ES256")).expect("a token");
    let mine = || ec_jwk("p256", "P-256", &keys().p256);
    let mut nameless = mine();
    nameless.as_object_mut().expect("an object").remove("kid");
    for (set, wanted) in [
        (vec![nameless.clone(), rsa_jwk("rsa")], None),
        (vec![mine(), nameless], Some(Refusal::AmbiguousKey)),
        (vec![rsa_jwk("rsa")], Some(Refusal::UnknownKey)),
        (vec![], Some(Refusal::UnknownKey)),
    ] {
        assert_eq!(verify(&parsed, &issuer(), &key_set(&set), NOW).err(), wanted);
    }
    let two = key_set(&[mine(), mine()]);
    let named = Token::parse(&token("ES256", "p256", &claims())).expect("a token");
    assert_eq!(verify(&named, &issuer(), &two, NOW), Err(Refusal::AmbiguousKey), "one id for two keys");
}

#[test]
fn compact_forms_that_must_be_refused() {
    let good = token("ES256", "p256", &claims());
    let parts: Vec<&str> = good.split('.').collect();
    let bad: Vec<(&str, String, Refusal)> = vec![
        ("nothing", String::new(), Refusal::NotCompact),
        ("one part", parts[0].into(), Refusal::NotCompact),
        ("two parts", format!("{}.{}", parts[0], parts[1]), Refusal::NotCompact),
        ("four parts", format!("{good}.AAAA"), Refusal::NotCompact),
        ("five parts, as if encrypted", format!("{good}.AAAA.AAAA"), Refusal::NotCompact),
        ("padding", format!("{}=.{}.{}", parts[0], parts[1], parts[2]), Refusal::NotCompact),
        ("a space", format!(" {good}"), Refusal::NotCompact),
        ("a line end", format!("{good}\n"), Refusal::NotCompact),
        ("the other base64", format!("{}.{}.+/+/", parts[0], parts[1]), Refusal::NotCompact),
        ("too long", format!("{good}{}", "A".repeat(17_000)), Refusal::TooLong),
        ("no signature", format!("{}.{}.", parts[0], parts[1]), Refusal::Signature),
        ("half a signature", format!("{}.{}.{}", parts[0], parts[1], base64([0; 32])), Refusal::Signature),
        ("zeroes for a signature", format!("{}.{}.{}", parts[0], parts[1], base64([0; 64])), Refusal::Signature),
    ];
    for (what, text, wanted) in bad {
        assert_eq!(judge(&text, &issuer()), Err(wanted), "{what}");
    }
    // The claims of one token with the signature of another.
    let other = token("ES256", "p256", &with("sub", json!("root")));
    let others: Vec<&str> = other.split('.').collect();
    assert_eq!(judge(&format!("{}.{}.{}", parts[0], others[1], parts[2]), &issuer()), Err(Refusal::Signature));
    // Base64 whose unused bits are set is another text for the same bytes.
    let last = parts[2].chars().last().expect("a character");
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let at = alphabet.find(last).expect("in the alphabet");
    let twin = alphabet.chars().nth(at ^ 1).expect("in the alphabet");
    let changed = format!("{}.{}.{}{twin}", parts[0], parts[1], &parts[2][..parts[2].len() - 1]);
    assert!(judge(&changed, &issuer()).is_err());
}

#[test]
fn a_token_does_not_show_itself() {
    let parsed = Token::parse(&token("ES256", "p256", &claims())).expect("a token");
    assert_eq!(format!("{parsed:?}"), "Token(<redacted>)");
}

#[test]
fn key_sets_that_are_none_are_refused() {
    let many: Vec<Value> = (0..65).map(|n| rsa_jwk(&n.to_string())).collect();
    for wrong in [
        "".to_owned(),
        "[]".into(),
        "{}".into(),
        r#"{"keys":{}}"#.into(),
        r#"{"keys":[],"keys":[]}"#.into(),
        json!({ "keys": many }).to_string(),
        format!("{{\"keys\":[],\"x\":\"{}\"}}", "x".repeat(300_000)),
    ] {
        assert!(KeySet::parse(wrong.as_bytes()).is_err(), "{}", &wrong[..wrong.len().min(60)]);
    }
    let odd = r#"{"keys":[1,null,{},{"kty":"RSA"},{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}]}"#;
    assert!(KeySet::parse(odd.as_bytes()).expect("a set").is_empty());
}

#[test]
fn mutated_tokens_and_key_sets_do_not_panic_and_prove_nobody() {
    let mut random = Random::new();
    let good = token("ES256", "p256", &claims());
    let set = json!({"keys": [rsa_jwk("rsa"), ec_jwk("p256", "P-256", &keys().p256)]}).to_string();
    let (keys, issuer) = (all_keys(), issuer());
    let mut parsed = 0;
    for _ in 0..rounds() {
        let changed = random.mutate(good.as_bytes());
        if changed != good.as_bytes()
            && let Ok(text) = std::str::from_utf8(&changed)
            && let Ok(token) = Token::parse(text)
        {
            parsed += 1;
            assert!(verify(&token, &issuer, &keys, NOW).is_err(), "{text}");
        }
        // Below the base64: header and claims as bytes.
        let claims = random.mutate(claims().to_string().as_bytes());
        let signed = format!("{}.{}.AAAA", base64(r#"{"alg":"ES256","kid":"p256"}"#), base64(claims));
        if let Ok(token) = Token::parse(&signed) {
            assert!(verify(&token, &issuer, &keys, NOW).is_err());
        }
        let _ = KeySet::parse(&random.mutate(set.as_bytes()));
    }
    assert!(parsed > 0);
}

// ----- discovery and keys -----

#[derive(Clone, Default)]
struct Web(Arc<Mutex<Site>>);

#[derive(Default)]
struct Site {
    documents: HashMap<String, String>,
    fetched: Vec<String>,
    /// The host that takes connections and does not answer.
    hangs: Option<&'static str>,
}

impl Web {
    fn new(keys: &[Value]) -> Self {
        let web = Self::default();
        web.put(
            &format!("{URL}/.well-known/openid-configuration"),
            json!({"issuer": URL, "jwks_uri": "https://keys.example.org/"}),
        );
        web.publish(keys);
        web
    }

    fn put(&self, url: &str, document: Value) {
        self.0.lock().expect("unpoisoned").documents.insert(url.into(), document.to_string());
    }

    fn publish(&self, keys: &[Value]) {
        self.put("https://keys.example.org/", json!({ "keys": keys }));
    }

    fn go_down(&self) {
        self.0.lock().expect("unpoisoned").documents.clear();
    }

    fn hang(&self, host: &'static str) {
        self.0.lock().expect("unpoisoned").hangs = Some(host);
    }

    fn fetches(&self) -> usize {
        self.0.lock().expect("unpoisoned").fetched.iter().filter(|url| url.contains("well-known")).count()
    }
}

impl Fetch for Web {
    fn fetch<'a>(&'a self, url: &'a str) -> Fetching<'a> {
        let mut site = self.0.lock().expect("unpoisoned");
        site.fetched.push(url.into());
        let answer = site.documents.get(url).map(|text| text.clone().into_bytes());
        if site.hangs.is_some_and(|host| url.contains(host)) {
            return Box::pin(std::future::pending());
        }
        Box::pin(async move { answer.ok_or_else(|| FetchError { url: url.into(), reason: "down".into() }) })
    }
}

fn issuers(web: &Web) -> Issuers<Web> {
    Issuers::new(vec![issuer()], web.clone()).expect("good")
}

/// Claims that stay valid while the test's clock moves.
fn lasting(algorithm: &str, id: &str) -> String {
    token(algorithm, id, &with("exp", json!(NOW + 10 * KEEP_FOR)))
}

#[tokio::test]
async fn keys_are_fetched_once_and_again_after_a_while() {
    let web = Web::new(&[ec_jwk("p256", "P-256", &keys().p256)]);
    let issuers = issuers(&web);
    let text = lasting("ES256", "p256");
    for (now, fetches) in [(NOW, 1), (NOW + 1, 1), (NOW + REFRESH_AFTER - 1, 1), (NOW + REFRESH_AFTER, 2)] {
        issuers.authenticate(&text, now).await.expect("good");
        assert_eq!(web.fetches(), fetches, "{}", now - NOW);
    }
}

#[tokio::test]
async fn an_unknown_key_is_looked_for_once_in_a_while() {
    let web = Web::new(&[ec_jwk("p256", "P-256", &keys().p256)]);
    let issuers = issuers(&web);
    issuers.authenticate(&lasting("ES256", "p256"), NOW).await.expect("good");
    let new = lasting("RS256", "rsa");
    assert_eq!(issuers.authenticate(&new, NOW + UNKNOWN_KEY_PAUSE - 1).await, Err(Refusal::UnknownKey));
    assert_eq!(web.fetches(), 1, "rate limited");
    web.publish(&[rsa_jwk("rsa")]);
    issuers.authenticate(&new, NOW + UNKNOWN_KEY_PAUSE).await.expect("rotated");
    assert_eq!(web.fetches(), 2);
    let old = issuers.authenticate(&lasting("ES256", "p256"), NOW + UNKNOWN_KEY_PAUSE + 1).await;
    assert_eq!(old, Err(Refusal::UnknownKey), "a key that was withdrawn does not count");
    for step in 0..100 {
        let _ = issuers.authenticate(&lasting("RS256", &format!("made up {step}")), NOW + UNKNOWN_KEY_PAUSE + 2).await;
    }
    assert_eq!(web.fetches(), 2, "made-up key ids cause no fetches");
}

#[tokio::test]
async fn an_issuer_that_is_down_is_not_asked_all_the_time_and_its_keys_count_for_a_day() {
    let web = Web::new(&[ec_jwk("p256", "P-256", &keys().p256)]);
    let (issuers, text) = (issuers(&web), lasting("ES256", "p256"));
    issuers.authenticate(&text, NOW).await.expect("good");
    web.go_down();
    issuers.authenticate(&text, NOW + REFRESH_AFTER).await.expect("kept keys");
    issuers.authenticate(&text, NOW + REFRESH_AFTER + FAILURE_PAUSE - 1).await.expect("kept keys");
    assert_eq!(web.fetches(), 2);
    issuers.authenticate(&text, NOW + KEEP_FOR - 1).await.expect("kept keys");
    assert_eq!(issuers.authenticate(&text, NOW + KEEP_FOR).await, Err(Refusal::Unavailable));
}

#[tokio::test]
async fn an_issuer_that_hangs_holds_up_nobody_whose_key_is_known() {
    let web = Web::new(&[ec_jwk("p256", "P-256", &keys().p256)]);
    let (issuers, text) = (issuers(&web).with_patience(SHORT), lasting("ES256", "p256"));
    issuers.authenticate(&text, NOW).await.expect("good");
    web.hang("login.example.org");
    let begun = Instant::now();
    issuers.authenticate(&text, NOW + REFRESH_AFTER).await.expect("kept keys, after a while");
    assert!(begun.elapsed() >= SHORT);
    // Longer than the test would wait, were it for each of them.
    let patient = issuers.with_patience(Duration::from_secs(3_600));
    for step in 0..100 {
        let at_once = patient.authenticate(&text, NOW + REFRESH_AFTER + step);
        tokio::time::timeout(Duration::from_secs(60), at_once).await.expect("at once").expect("kept keys");
    }
    assert_eq!(web.fetches(), 2, "a second fetch was begun beside one that hangs");
}

#[tokio::test]
async fn callers_who_wait_for_an_issuer_that_hangs_are_few_and_wait_for_a_while_alone() {
    let web = Web::new(&[ec_jwk("p256", "P-256", &keys().p256)]);
    web.hang("login.example.org");
    let other = "https://other.example.org";
    web.put(
        &format!("{other}/.well-known/openid-configuration"),
        json!({"issuer": other, "jwks_uri": "https://keys.example.org/"}),
    );
    let both = vec![issuer(), Issuer { url: other.into(), ..issuer() }];
    let issuers = Arc::new(Issuers::new(both, web.clone()).expect("good").with_patience(SHORT));
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..WAITING + 50 {
        let issuers = Arc::clone(&issuers);
        waiting.spawn(async move { issuers.authenticate(&lasting("ES256", "p256"), NOW).await });
    }
    let begun = Instant::now();
    for _ in 0..50 {
        let refused = waiting.join_next().await.expect("one of them").expect("no panic");
        assert_eq!(refused, Err(Refusal::Unavailable));
    }
    assert!(begun.elapsed() < SHORT, "nobody was turned away at once: {:?}", begun.elapsed());
    issuers.authenticate(&token("ES256", "p256", &with("iss", json!(other))), NOW).await.expect("the other issuer");
    while let Some(refused) = waiting.join_next().await {
        assert_eq!(refused.expect("no panic"), Err(Refusal::Unavailable));
    }
    assert!(begun.elapsed() >= SHORT, "nobody waited");
    assert_eq!(web.fetches(), 2, "one for each issuer");
}

/// Long enough to do something in the meantime.
const SHORT: Duration = Duration::from_secs(2);

#[tokio::test]
async fn discovery_must_be_that_of_the_issuer() {
    let discovery = format!("{URL}/.well-known/openid-configuration");
    for document in [
        json!({"issuer": "https://evil.example.org", "jwks_uri": "https://keys.example.org/"}),
        json!({"issuer": format!("{URL}/"), "jwks_uri": "https://keys.example.org/"}),
        json!({"issuer": URL, "jwks_uri": "http://keys.example.org/"}),
        json!({"issuer": URL}),
        json!([]),
    ] {
        let web = Web::new(&[ec_jwk("p256", "P-256", &keys().p256)]);
        web.put(&discovery, document.clone());
        assert_eq!(
            issuers(&web).authenticate(&lasting("ES256", "p256"), NOW).await,
            Err(Refusal::Unavailable),
            "{document}"
        );
    }
    let web = Web::default();
    let refused =
        issuers(&web).authenticate(&token("ES256", "p256", &with("iss", json!("https://evil.example.org"))), NOW).await;
    assert_eq!((refused, web.fetches()), (Err(Refusal::UnknownIssuer), 0), "an unlisted issuer is never asked");
}

#[test]
fn configurations_that_would_accept_too_much_are_refused() {
    let with = |change: &dyn Fn(&mut Issuer)| {
        let mut one = issuer();
        change(&mut one);
        Issuers::new(vec![one], Web::default()).err()
    };
    assert_eq!(with(&|_| {}), None);
    for url in ["http://login.example.org", "login.example.org", "https://", "https://a.org/?x", "https://a.org/#x", ""]
    {
        assert_eq!(with(&|one| one.url = url.into()), Some(IssuerError::Url(url.into())));
    }
    assert_eq!(with(&|one| one.audiences.clear()), Some(IssuerError::NoAudience(URL.into())));
    assert_eq!(with(&|one| one.algorithms.clear()), Some(IssuerError::NoAlgorithm(URL.into())));
    for prefix in ["", "/", "myvo", "/myvo/", "/myvo/Role=x"] {
        let change = |one: &mut Issuer| one.groups.as_mut().expect("a rule").prefix = prefix.into();
        assert_eq!(with(&change), Some(IssuerError::Prefix(URL.into())), "{prefix}");
    }
    let twice = Issuers::new(vec![issuer(), issuer()], Web::default()).err();
    assert_eq!(twice, Some(IssuerError::Twice(URL.into())));
}
