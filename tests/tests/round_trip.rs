//! A real image goes in and comes back: without the patient for research, byte for byte for the treating physician.

use std::fs;

use eds_tests::{
    Outcome,
    cluster::Cluster,
    dicom, files, sample,
    user::{User, exit},
};

#[test]
fn a_ct_image_comes_back_and_storage_knows_nothing_of_the_patient() -> Outcome {
    let cluster = Cluster::of_three()?;
    let alice = cluster.user("alice")?;
    let image = fs::read(dicom::ct_small()?)?;
    fs::write(alice.home().join("scan.dcm"), &image)?;
    let id = alice.eds(["register", "scan.dcm"])?.success()?.id();
    fs::remove_file(alice.home().join("scan.dcm"))?;

    // Nothing but the certificate, the catalog and what is stored is left in the user's folder.
    assert_eq!(files::holding(alice.home(), &dicom::CT_PATIENT)?, []);

    alice.eds(["retrieve", &id, "-o", "research.dcm"])?.success()?;
    assert_eq!(files::holding(alice.home(), &dicom::CT_PATIENT)?, []);
    let research = fs::read(alice.home().join("research.dcm"))?;
    assert!(files::contains(&research, b"DICM"), "what comes out is a DICOM file");
    // (7FE0,0010) OW, 32,768 bytes: 128 by 128 pixels of 16 bits.
    let element = b"\xe0\x7f\x10\0OW\0\0\0\x80\0\0";
    let start = image.windows(element.len()).position(|window| window == element).unwrap_or_default() + element.len();
    let pixels = image.get(start..start + 32_768).unwrap_or_default();
    assert!(files::contains(&research, pixels), "its pixels are those of the original");

    alice.eds(["retrieve", &id, "--restore", "-o", "back.dcm"])?.success()?;
    assert_eq!(fs::read(alice.home().join("back.dcm"))?, image);
    Ok(())
}

#[test]
fn images_of_every_kind_are_restored_byte_for_byte() -> Outcome {
    let cluster = Cluster::of_three()?;
    // Several are the same image in another form, so each is registered by somebody else.
    for (number, name) in IMAGES.into_iter().enumerate() {
        let user = cluster.user(&format!("user{number}"))?;
        fs::copy(dicom::find(name)?, user.home().join(name))?;
        let id = user.eds(["register", "--pass-suspect", name])?.success()?.id();
        user.eds(["retrieve", &id, "--restore", "-o", "back.dcm"])?.success()?;
        assert_eq!(fs::read(user.home().join("back.dcm"))?, fs::read(dicom::find(name)?)?, "{name}");
    }
    Ok(())
}

#[test]
fn an_existing_file_is_not_overwritten_unless_asked() -> Outcome {
    let cluster = Cluster::of_three()?;
    let alice = cluster.user("alice")?;
    fs::copy(dicom::ct_small()?, alice.home().join("scan.dcm"))?;
    let id = alice.eds(["register", "scan.dcm"])?.success()?.id();
    fs::write(alice.home().join("mine"), "precious")?;
    alice.eds(["retrieve", &id, "-o", "mine"])?.refused(exit::CONFLICT, &["mine exists already", "hint:"])?;
    assert_eq!(fs::read(alice.home().join("mine"))?, b"precious");
    alice.eds(["retrieve", &id, "--restore", "--force", "-o", "mine"])?.success()?;
    assert_eq!(fs::read(alice.home().join("mine"))?, fs::read(dicom::ct_small()?)?);
    Ok(())
}

#[test]
fn an_id_that_was_never_registered_is_not_found() -> Outcome {
    let cluster = Cluster::of_three()?;
    let alice = cluster.user("alice")?;
    let unknown = "6f1a7c1e-0f6e-4d1c-9d6c-3f2d2f6b9a55";
    alice.eds(["retrieve", unknown, "-o", "out"])?.refused(exit::NOT_FOUND, &[unknown])?;
    assert!(!alice.home().join("out").exists());
    Ok(())
}

#[test]
fn files_of_every_size_are_encrypted_and_decrypted() -> Outcome {
    let cluster = Cluster::of_three()?;
    let alice = cluster.user("alice")?;
    for size in SIZES {
        round_trip_of_file(&alice, size)?;
    }
    Ok(())
}

fn round_trip_of_file(alice: &User, size: usize) -> Outcome {
    let content = sample::bytes("file", size);
    fs::write(alice.home().join("plain"), &content)?;
    alice.eds(["encrypt", "plain", "-o", "cipher"])?.success()?;
    let cipher = fs::read(alice.home().join("cipher"))?;
    if size >= 16 {
        assert!(!files::contains(&cipher, content.get(..16).unwrap_or_default()), "{size} bytes stayed readable");
    }
    alice.eds(["decrypt", "cipher", "-o", "back"])?.success()?;
    assert_eq!(fs::read(alice.home().join("back"))?, content, "{size} bytes");
    for name in ["plain", "cipher", "back"] {
        fs::remove_file(alice.home().join(name))?;
    }
    Ok(())
}

#[test]
fn pipes_are_encrypted_and_decrypted() -> Outcome {
    let cluster = Cluster::of_three()?;
    let alice = cluster.user("alice")?;
    for size in [0, 1, 16_384, 3_000_000] {
        let content = sample::bytes("pipe", size);
        let cipher = alice.eds_fed(["encrypt", "-", "-o", "-"], &content)?.success()?.stdout;
        assert!(cipher.len() > size);
        let back = alice.eds_fed(["decrypt", "-", "-o", "-"], &cipher)?.success()?.stdout;
        assert!(back == content, "{size} bytes");
    }
    Ok(())
}

/// Around each boundary of 16 KiB chunks.
const SIZES: [usize; 9] = [0, 1, 16_383, 16_384, 16_385, 32_768, (1 << 20) - 1, 1 << 20, (1 << 20) + 1];

/// Byte orders, lengths and transfer syntaxes.
const IMAGES: [&str; 8] = [
    "CT_small.dcm",
    "MR_small.dcm",
    "MR_small_implicit.dcm",
    "MR_small_RLE.dcm",
    "MR_small_bigendian.dcm",
    "JPEG2000.dcm",
    "rtplan.dcm",
    "image_dfl.dcm",
];
