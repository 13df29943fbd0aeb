//! A ward with an imaging device that encrypts at source, the courier that carries its images, and the physician who owns them.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use eds::{cluster::Fingerprint, storage::ObjectName};
use eds_core::directory::Directory;

use crate::{
    Outcome, Trouble,
    cluster::Cluster,
    dicom,
    imaging::{Device, Made},
    user::{Run, User},
};

/// A cluster of three with a device, its courier, and the physician who owns its images.
pub struct Ward {
    /// The nodes, where the device is enrolled.
    pub cluster: Cluster,
    /// What the device knows of them.
    pub directory: Directory,
    /// The device.
    pub device: Device,
    /// Who carries, and may read nothing.
    pub courier: User,
    /// Who owns the images; looks at the same storage with a catalog of their own.
    pub physician: User,
}

/// Makes it, with all nodes at work.
///
/// # Errors
/// When a step fails, with what the program said.
pub fn ward() -> Outcome<Ward> {
    let mut cluster = Cluster::of_three()?;
    let (courier, physician) = (cluster.user("cart 3")?, cluster.user("physician")?);
    cluster.configure(
        "\n[policy]\ncouriers = [{ issuer = \"/CN=EDS test CA/O=EDS test hospital\", \
         subject = \"/CN=cart 3/O=EDS test hospital\" }]\n",
    )?;
    let device = Device::new()?;
    device.enroll(&mut cluster, &physician.home().join("me.crt"), &[])?;
    let pin: Fingerprint = cluster.fingerprint().parse()?;
    let directory = Directory::verify(&fs::read(cluster.directory())?, &pin.0)?;
    // Both look at one storage; the physician has a catalog of their own.
    fs::create_dir_all(courier.objects())?;
    symlink(courier.objects(), physician.objects())?;
    Ok(Ward { cluster, directory, device, courier, physician })
}

/// The frame of a real image: its pixels, as the sensor gives them.
///
/// # Errors
/// When the set-up was not run.
pub fn frame() -> Outcome<Vec<u8>> {
    let image = fs::read(dicom::ct_small()?)?;
    // 128 rows of 128 pixels of two bytes, at the end of the file but for the padding after them.
    let element = image.windows(8).rposition(|window| window == [0xe0, 0x7f, 0x10, 0x00, b'O', b'W', 0, 0]);
    let start = element.ok_or_else(|| Trouble::new("no pixel data"))? + 12;
    let frame = image.get(start..start + 128 * 128 * 2);
    frame.map(<[u8]>::to_vec).ok_or_else(|| Trouble::new("another CT_small.dcm"))
}

impl Ward {
    /// The device takes an image that two of three nodes open.
    ///
    /// # Errors
    /// As [`Device::takes`].
    pub fn takes(&self, image: &[u8]) -> Outcome<Made> {
        self.device.takes(&self.directory, 2, image)
    }

    /// A recording of the link, as a memory card brings it.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn card(&self, name: &str, made: &Made) -> Outcome<PathBuf> {
        self.card_of(name, &made.recording()?)
    }

    /// A card with these bytes on it.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn card_of(&self, name: &str, bytes: &[u8]) -> Outcome<PathBuf> {
        let path = self.cluster.folder().join(name);
        fs::write(&path, bytes)?;
        Ok(path)
    }

    /// The courier reads a card.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn carries(&self, card: &Path) -> Outcome<Run> {
        carries(&self.courier, card, &[])
    }

    /// The physician retrieves an image, as `image` in their folder.
    ///
    /// # Errors
    /// When `eds` cannot be started.
    pub fn retrieves(&self, made: &Made) -> Outcome<Run> {
        self.physician.eds(["retrieve", &made.begin.file.to_string(), "-o", "image", "--force"])
    }

    /// Where the container of an image is stored.
    pub fn object(&self, made: &Made) -> PathBuf {
        self.courier.objects().join(ObjectName::of(made.begin.file).to_string())
    }
}

/// A courier reads a card, with more options.
///
/// # Errors
/// When it cannot be started.
pub fn carries(courier: &User, card: &Path, more: &[&str]) -> Outcome<Run> {
    let card = card.display().to_string();
    courier.eds([&["courier", "--file", &card][..], more].concat())
}
