//! Changing whose the images of an enrolled device are: owner, group, permissions, entries, and what people call it.
//!
//! What is not named stays. Keys that were registered before keep their access lists, which are their owners' to change. The
//! public key cannot be changed: a device with another key is another device.

use std::{fmt::Write as _, path::PathBuf};

use eds_core::ids::DeviceId;

use super::{Authority, DeviceError, allowed, digest, guard, told, usable_name};
use crate::{
    audit::Operation,
    config::Config,
    node::{Clock as _, SystemClock},
    policy::{enrolment::Enrolment, wire},
    rotation::Office,
    store::StoredDevice,
};

/// What officers change, as they type it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Changes {
    /// What people call it.
    pub name: Option<String>,
    /// Who owns its images: a subject, or `@FILE` with a certificate.
    pub owner: Option<String>,
    /// The certificate of the authority that vouches for names in slash form.
    pub ca: Option<PathBuf>,
    /// The group of its images; `Some(None)` takes it away.
    pub group: Option<Option<String>>,
    /// The permissions of owner, group and others, as a change of those that there are.
    pub mode: Option<String>,
    /// The further people and groups, in place of those that there are.
    pub entries: Option<Vec<String>>,
}

/// Changes an enrolment, for the keys that are registered from now on. Returns what was done, in words.
///
/// # Errors
/// [`DeviceError`]; nothing was changed then.
pub fn change(config: &Config, device: DeviceId, changes: &Changes) -> Result<String, DeviceError> {
    // What was typed wrong is said before anything is opened.
    let name = changes.name.as_deref().map(usable_name).transpose()?;
    let authority = Authority::read(changes.ca.as_deref())?;

    let office = Office::open(config)?;
    let console = office.console(config);
    let act = console.begin(Operation::DEVICE_CHANGE, format_args!("device {device}"))?;
    let done = change_sealed(&office, device, &|enrolment| {
        let mut list = wire::shown(&enrolment.access);
        if let Some(owner) = &changes.owner {
            list.owner = authority.owner(owner)?;
        }
        if let Some(group) = &changes.group {
            list.group = group.as_deref().map(Authority::group).transpose()?;
        }
        if let Some(entries) = &changes.entries {
            list.entries = authority.entries(entries)?;
        }
        let access = allowed(list, changes.mode.as_deref())?;
        let name = name.clone().unwrap_or_else(|| enrolment.name.clone());
        Ok(Enrolment { name, access, ..enrolment })
    });
    let (_, new, enrolment) = act.ends(done, DeviceError::is_refusal, |(old, new, _)| {
        format!("device {device}, enrolment {}, before {}", digest(new), digest(old))
    })?;
    let mut text = format!("device {device} is changed on node {}, for images registered from now on\n", office.node());
    let _ = writeln!(text, "    {}", told(&enrolment));
    let _ = writeln!(text, "    SHA-256 of the enrolment: {}", digest(&new));
    text.push_str(
        "next: the same on every other node; until then `eds key sync` shows new images whose lists differ\n",
    );
    Ok(text)
}

/// The enrolment of before, the one in its place, and what that says.
type Replaced = (StoredDevice, StoredDevice, Enrolment);

fn change_sealed(
    office: &Office,
    device: DeviceId,
    make: &dyn Fn(Enrolment) -> Result<Enrolment, DeviceError>,
) -> Result<Replaced, DeviceError> {
    let (guard, store) = (guard(office), office.store());
    let seen = store.device(device)?.ok_or(DeviceError::Missing(device))?;
    let old = guard.open(&seen)?.map_err(|_| DeviceError::Altered(device))?;
    if old.revoked.is_some() {
        return Err(DeviceError::Revoked(device));
    }
    let enrolment = make(old.clone())?;
    if enrolment == old {
        return Ok((seen.clone(), seen, enrolment));
    }
    let new = guard.seal(device, &enrolment)?;
    if store.change_device(&seen, &new, SystemClock.now())? {
        Ok((seen, new, enrolment))
    } else {
        Err(DeviceError::Changed(device))
    }
}
