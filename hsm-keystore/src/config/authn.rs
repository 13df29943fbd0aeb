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

use std::{ops::Range, path::PathBuf};

use serde::Deserialize;
use toml::Spanned;

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

/// What is wrong with the section: where, what, and what to do.
pub(super) type Wrong = (Option<Range<usize>>, String, &'static str);

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawAuthn {
    ca_directory: Option<PathBuf>,
    voms_directory: Option<PathBuf>,
    host_names: Vec<String>,
    require_crl: bool,
    crl_grace_hours: Option<Spanned<i64>>,
    clock_skew_s: Option<Spanned<i64>>,
    rekeyed: Vec<Spanned<String>>,
    token_ca: Option<PathBuf>,
    issuer: Vec<RawIssuer>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawIssuer {
    url: Spanned<String>,
    audience: Vec<String>,
    profile: Option<Spanned<String>>,
    algorithms: Option<Vec<Spanned<String>>>,
    max_lifetime_s: Option<i64>,
    groups_claim: Option<String>,
    groups_prefix: Option<Spanned<String>>,
    #[serde(default)]
    groups_relative: bool,
}

impl RawAuthn {
    /// The section, with its paths made absolute by `at`.
    pub(super) fn read(self, at: impl Fn(PathBuf) -> PathBuf) -> Result<AuthnConfig, Wrong> {
        let mut settings = Settings { require_crl: self.require_crl, ..Settings::default() };
        if let Some(hours) = self.crl_grace_hours {
            settings.crl_grace = within(&hours, 0..=24 * 30, "authn.crl_grace_hours: not between 0 and 720")? * 3600;
        }
        if let Some(seconds) = self.clock_skew_s {
            settings.skew = within(&seconds, 0..=3600, "authn.clock_skew_s: not between 0 and 3600")?;
        }
        for text in self.rekeyed {
            let wrong = || {
                (
                    Some(text.span()),
                    "authn.rekeyed: not 64 hexadecimal digits".to_owned(),
                    "the error about two authorities of one name gives the fingerprint",
                )
            };
            settings.rekeyed.push(hex::decode_array(text.get_ref()).ok_or_else(wrong)?);
        }
        if let (None, Some(issuer)) = (&self.token_ca, self.issuer.first()) {
            let hint = "give the PEM file of the authorities of the issuers' https servers";
            return Err((
                Some(issuer.url.span()),
                "authn.token_ca: missing, although there are issuers of tokens".to_owned(),
                hint,
            ));
        }
        let skew = settings.skew.min(TOKEN_SKEW);
        let issuers = self.issuer.into_iter().map(|issuer| issuer.read(skew)).collect::<Result<_, _>>()?;
        Ok(AuthnConfig {
            ca_directory: self.ca_directory.map(&at),
            voms_directory: self.voms_directory.map(&at),
            host_names: self.host_names,
            settings,
            token_ca: self.token_ca.map(&at),
            issuers,
        })
    }
}

impl RawIssuer {
    fn read(self, skew: i64) -> Result<Issuer, Wrong> {
        let profile = match self.profile.as_ref().map(|profile| profile.get_ref().as_str()) {
            None | Some("oidc") => Profile::Oidc,
            Some("wlcg") => Profile::Wlcg,
            Some(other) => {
                let span = self.profile.as_ref().map(Spanned::span);
                return Err((
                    span,
                    format!("authn.issuer.profile: {other:?} is not known"),
                    "it is \"oidc\" or \"wlcg\"",
                ));
            }
        };
        let mut algorithms = Algorithm::DEFAULT.to_vec();
        if let Some(names) = self.algorithms {
            let wrong = |name: &Spanned<String>| {
                (
                    Some(name.span()),
                    format!("authn.issuer.algorithms: {:?} is not accepted", name.get_ref()),
                    "RS256 to RS512, PS256 to PS512, ES256 and ES384 are known; none and HMAC never are",
                )
            };
            algorithms = names
                .iter()
                .map(|name| Algorithm::by_name(name.get_ref()).ok_or_else(|| wrong(name)))
                .collect::<Result<_, _>>()?;
        }
        let groups = match self.groups_prefix {
            None => None,
            Some(prefix) => Some(GroupRule {
                claim: self
                    .groups_claim
                    .unwrap_or_else(|| if profile == Profile::Wlcg { "wlcg.groups" } else { "groups" }.to_owned()),
                prefix: prefix.into_inner(),
                relative: self.groups_relative,
            }),
        };
        Ok(Issuer {
            url: self.url.into_inner(),
            audiences: self.audience,
            algorithms,
            profile,
            skew,
            max_lifetime: self.max_lifetime_s,
            groups,
        })
    }
}

fn within(value: &Spanned<i64>, allowed: std::ops::RangeInclusive<i64>, message: &str) -> Result<i64, Wrong> {
    if allowed.contains(value.get_ref()) {
        Ok(*value.get_ref())
    } else {
        Err((Some(value.span()), message.to_owned(), "see docs/keystore.md"))
    }
}

/// Tokens are made by servers, whose clocks are right: at most this many seconds of skew.
const TOKEN_SKEW: i64 = 60;

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<AuthnConfig, Wrong> {
        let raw: RawAuthn = toml::from_str(text).expect("TOML");
        raw.read(|path| std::path::Path::new("/srv").join(path))
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
        ] {
            let (span, message, hint) = read(&text).expect_err(told);
            assert!(message.contains(told) && span.is_some() && !hint.is_empty(), "{message}");
        }
        assert!(toml::from_str::<RawAuthn>("ca_dir = \"x\"").is_err(), "unknown keys are errors");
    }
}
