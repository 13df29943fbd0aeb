//! The `[authn]` section: what is accepted as proof of who a caller is. All of it may be left out.
//!
//! ```toml
//! [authn]
//! ca_directory = "/etc/grid-security/certificates"
//! voms_directory = "/etc/grid-security/vomsdir"
//! host_names = ["eds1.hospital.example"]
//! require_crl = false
//! token_ca = "issuer-ca.pem"
//!
//! [[authn.issuer]]
//! url = "https://login.hospital.example/realms/eds"
//! audience = ["eds"]
//! profile = "oidc"
//! groups_claim = "groups"
//! groups_prefix = "/hospital"
//! groups_relative = true
//! ```

use std::path::PathBuf;

use super::reader::{Role, Section, Text};
use crate::{
    authn::{
        jwt::{Algorithm, GroupRule, Issuer, Profile},
        trust::Settings,
    },
    hex,
};

/// What is accepted as proof, beside the client authorities of the `[tls]` section.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct AuthnConfig {
    /// A directory of authorities in the hashed layout of the grid.
    pub ca_directory: Option<PathBuf>,
    /// The `vomsdir`.
    pub voms_directory: Option<PathBuf>,
    /// Host names under which VOMS attributes may target this node.
    pub host_names: Vec<String>,
    /// How strict authorities are.
    pub settings: Settings,
    /// Authorities of the https servers of token issuers.
    pub token_ca: Option<PathBuf>,
    /// The issuers of tokens.
    pub issuers: Vec<Issuer>,
}

/// Reads the section.
pub(super) fn read(section: &Section<'_>) -> AuthnConfig {
    let mut settings = Settings { require_crl: section.flag("require_crl"), ..Settings::default() };
    let seconds = |key, default: i64, unit: i64, most, hint| {
        let default = u64::try_from(default / unit).unwrap_or(0);
        i64::try_from(section.number(key, default, 0..=most, hint)).unwrap_or(0).saturating_mul(unit)
    };
    settings.crl_grace = seconds("crl_grace_hours", settings.crl_grace, 3600, 24 * 30, "give hours; 0 is strict");
    settings.skew = seconds("clock_skew_s", settings.skew, 1, 3600, "give seconds; 300 is usual");
    for text in section.texts("rekeyed").unwrap_or_default() {
        match hex::decode_array(text.value) {
            Some(fingerprint) => settings.rekeyed.push(fingerprint),
            None => {
                let hint = "the error about two authorities of one name gives the fingerprint";
                section.fault(text.span, "authn.rekeyed: not 64 hexadecimal digits".to_owned(), hint);
            }
        }
    }
    let token_ca = section.path("token_ca", Role::Authorities);
    let skew = settings.skew.min(TOKEN_SKEW);
    let issuers: Vec<_> = section.sections("issuer", |section| issuer(section, skew));
    if token_ca.is_none() && !issuers.is_empty() && !section.has("token_ca") {
        section.missing("token_ca", "give the PEM file of the authorities of the issuers' https servers");
    }
    let host_names = section.texts("host_names").unwrap_or_default();
    AuthnConfig {
        ca_directory: section.path("ca_directory", Role::AuthorityDirectory),
        voms_directory: section.path("voms_directory", Role::VomsDirectory),
        host_names: host_names.into_iter().map(|name| name.value.to_owned()).collect(),
        settings,
        token_ca,
        issuers: issuers.into_iter().flatten().collect(),
    }
}

/// Reads one `[[authn.issuer]]`.
fn issuer(section: &Section<'_>, skew: i64) -> Option<Issuer> {
    section.need(&["url", "audience"]);
    let profile = match section.text("profile") {
        None => Profile::Oidc,
        Some(text) if text.value == "oidc" => Profile::Oidc,
        Some(text) if text.value == "wlcg" => Profile::Wlcg,
        Some(text) => {
            let message = format!("authn.issuer.profile: {:?} is not known", text.value);
            section.fault(text.span, message, "it is \"oidc\" or \"wlcg\"");
            Profile::Oidc
        }
    };
    let algorithm = |text: Text<'_>| {
        let algorithm = Algorithm::by_name(text.value);
        if algorithm.is_none() {
            let hint = "RS256 to RS512, PS256 to PS512, ES256 and ES384 are known; none and HMAC never are";
            section.fault(text.span, format!("authn.issuer.algorithms: {:?} is not accepted", text.value), hint);
        }
        algorithm
    };
    let algorithms = match section.texts("algorithms") {
        None => Algorithm::DEFAULT.to_vec(),
        Some(names) => names.into_iter().filter_map(algorithm).collect(),
    };
    let (claim, relative) = (section.text("groups_claim"), section.flag("groups_relative"));
    let groups = section.text("groups_prefix").map(|prefix| GroupRule {
        claim: claim
            .map_or(if profile == Profile::Wlcg { "wlcg.groups" } else { "groups" }, |claim| claim.value)
            .to_owned(),
        prefix: prefix.value.to_owned(),
        relative,
    });
    let max_lifetime = section.has("max_lifetime_s").then(|| {
        let seconds = section.number("max_lifetime_s", DAY, 1..=365 * DAY, "give seconds; 86400 is a day");
        i64::try_from(seconds).unwrap_or(i64::MAX)
    });
    let audiences = section.texts("audience").unwrap_or_default();
    Some(Issuer {
        url: section.text("url")?.value.to_owned(),
        audiences: audiences.into_iter().map(|audience| audience.value.to_owned()).collect(),
        algorithms,
        profile,
        skew,
        max_lifetime,
        groups,
    })
}

const DAY: u64 = 86_400;

/// Tokens are made by servers, whose clocks are right: at most this many seconds of skew.
const TOKEN_SKEW: i64 = 60;

#[cfg(test)]
mod tests {
    use super::{
        super::reader::{Fault, Reader},
        *,
    };

    fn read(text: &str) -> Result<AuthnConfig, Vec<Fault>> {
        let reader = Reader::new(std::path::Path::new("/srv/node.toml"), text);
        let config = reader.read(super::read);
        let (faults, _) = reader.finish();
        if faults.is_empty() { Ok(config) } else { Err(faults) }
    }

    #[test]
    fn an_empty_section_accepts_nothing_more() {
        assert_eq!(read("").expect("good"), AuthnConfig::default());
    }

    #[test]
    fn a_whole_section_is_read() {
        let text = r#"
            ca_directory = "/etc/grid-security/certificates"
            voms_directory = "vomsdir"
            host_names = ["eds1"]
            require_crl = true
            crl_grace_hours = 12
            clock_skew_s = 30
            rekeyed = ["00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"]
            token_ca = "ca.pem"
            [[issuer]]
            url = "https://a"
            audience = ["eds"]
            profile = "wlcg"
            groups_prefix = "/myvo"
            algorithms = ["ES256"]
            [[issuer]]
            url = "https://b"
            audience = ["eds"]
            max_lifetime_s = 600
            groups_claim = "roles"
            groups_prefix = "/b"
            groups_relative = true
        "#;
        let config = read(text).expect("good");
        assert_eq!(config.voms_directory.as_deref(), Some(std::path::Path::new("/srv/vomsdir")));
        assert_eq!((config.settings.require_crl, config.settings.crl_grace, config.settings.skew), (true, 43_200, 30));
        assert_eq!(config.settings.rekeyed.len(), 1);
        let [first, second] = config.issuers.as_slice() else { panic!("two issuers") };
        assert_eq!(
            (first.profile, first.skew, first.algorithms.as_slice()),
            (Profile::Wlcg, 30, &[Algorithm::Es256][..])
        );
        assert_eq!(first.groups.as_ref().expect("groups").claim, "wlcg.groups");
        assert_eq!((second.profile, second.max_lifetime, second.algorithms.len()), (Profile::Oidc, Some(600), 4));
        assert!(second.groups.as_ref().expect("groups").relative);
    }

    #[test]
    fn what_is_wrong_is_told() {
        let issuer = "token_ca = \"x\"\n[[issuer]]\nurl = \"https://a\"\naudience = [\"eds\"]\n";
        for (text, told) in [
            ("crl_grace_hours = -1".to_owned(), "crl_grace_hours"),
            ("clock_skew_s = 3601".into(), "clock_skew_s"),
            ("rekeyed = [\"00\"]".into(), "rekeyed"),
            (issuer.replace("token_ca = \"x\"", ""), "token_ca"),
            (format!("{issuer}profile = \"saml\""), "profile"),
            (format!("{issuer}algorithms = [\"HS256\"]"), "HS256"),
            (format!("{issuer}algorithms = [\"none\"]"), "none"),
            (format!("{issuer}max_lifetime_s = 0"), "max_lifetime_s"),
            (issuer.replace("audience", "audiense"), "audience"),
            ("ca_dir = \"x\"".into(), "ca_dir: unknown key"),
            ("host_names = \"eds1\"".into(), "host_names"),
        ] {
            let faults = read(&text).expect_err(told);
            let found = faults.iter().any(|fault| fault.message.contains(told) && !fault.hint.is_empty());
            assert!(found, "{told}: {faults:?}");
        }
    }
}
