//! Who is calling: a peer is known by its AE title, its address and, over TLS, its certificate; all must fit one entry.

use std::net::IpAddr;

use super::{
    association::{Caller, Refusal},
    settings::{Peer, Settings},
};

/// The entry that fits a caller.
///
/// # Errors
/// [`Refusal::Called`], [`Refusal::Calling`].
pub(super) fn admit<'a>(
    settings: &'a Settings,
    caller: &Caller,
    address: IpAddr,
    certificate_name: Option<&str>,
) -> Result<&'a Peer, Refusal> {
    if caller.called != settings.ae_title {
        return Err(Refusal::Called);
    }
    let address = address.to_canonical();
    let fits = |peer: &&Peer| {
        peer.ae_title == caller.calling
            && peer.addresses.iter().any(|known| known.to_canonical() == address)
            && peer.certificate_name.as_deref() == certificate_name
    };
    settings.peers.iter().find(fits).ok_or(Refusal::Calling)
}

/// Where a destination of C-MOVE listens.
pub(super) fn destination<'a>(settings: &'a Settings, ae_title: &str) -> Option<&'a str> {
    settings.peers.iter().find(|peer| peer.ae_title == ae_title)?.destination.as_deref()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn settings(certificate_name: Option<&str>) -> Settings {
        let peer = Peer {
            ae_title: "CT1".into(),
            addresses: vec!["10.0.0.5".parse().expect("an address")],
            certificate_name: certificate_name.map(String::from),
            may: Vec::new(),
            config: PathBuf::new(),
            destination: None,
        };
        Settings {
            listen: "127.0.0.1:0".parse().expect("an address"),
            ae_title: "EDS".into(),
            spool: PathBuf::new(),
            associations: 1,
            scope: crate::metadata::KeyScope::Image,
            tls: None,
            peers: vec![peer],
        }
    }

    #[test]
    fn title_address_and_certificate_must_fit_one_entry() {
        let here: IpAddr = "10.0.0.5".parse().expect("an address");
        let mapped: IpAddr = "::ffff:10.0.0.5".parse().expect("an address");
        let elsewhere: IpAddr = "10.0.0.6".parse().expect("an address");
        for (called, calling, address, wanted, shown, admitted) in [
            ("EDS", "CT1", here, None, None, Ok(())),
            ("EDS", "CT1", mapped, None, None, Ok(())),
            ("EDS", "CT1", here, Some("ct1"), Some("ct1"), Ok(())),
            ("ANY", "CT1", here, None, None, Err(Refusal::Called)),
            ("EDS", "CT2", here, None, None, Err(Refusal::Calling)),
            ("EDS", "ct1", here, None, None, Err(Refusal::Calling)),
            ("EDS", "CT1", elsewhere, None, None, Err(Refusal::Calling)),
            ("EDS", "CT1", here, Some("ct1"), Some("ct2"), Err(Refusal::Calling)),
            ("EDS", "CT1", here, Some("ct1"), None, Err(Refusal::Calling)),
            ("EDS", "CT1", here, None, Some("ct1"), Err(Refusal::Calling)),
        ] {
            let caller = Caller { calling: calling.into(), called: called.into() };
            let settings = settings(wanted);
            let found = admit(&settings, &caller, address, shown).map(|_| ());
            assert_eq!(found, admitted, "{called} {calling} {address} {wanted:?} {shown:?}");
        }
    }
}
