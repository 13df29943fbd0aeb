//! Images that lie at a storage elsewhere: registered, found, looked at and retrieved as if they lay here.

use std::{fs, path::Path};

use eds_storage_tests::{davs, s3};
use eds_tests::{
    Outcome,
    cluster::Cluster,
    dicom, files,
    storages::{Lab, Seaweed, Xrootd},
    user::{User, exit},
};

/// A user whose only storage is this site.
fn at(user: &User, site: &str) -> Outcome {
    let settings = fs::read_to_string(user.config())?;
    let settings = settings.replace("[storage]\npath = \"objects\"\n", &format!("[[storage.site]]\n{site}\n"));
    Ok(fs::write(user.config(), settings)?)
}

/// The whole story of one image, and of a file of this many bytes.
fn story(user: &User) -> Outcome {
    let image = dicom::ct_small()?;
    let doctor = user.eds(["doctor"])?.success()?.text();
    assert!(doctor.contains("ok    storage "), "{doctor}");
    let registered = user.eds(["register".as_ref(), image.as_os_str()])?.success()?.id();
    assert!(!user.objects().exists(), "nothing is stored on this machine");

    user.eds(["retrieve", &registered, "--restore", "-o", "back.dcm"])?.success()?;
    assert_eq!(fs::read(user.home().join("back.dcm"))?, fs::read(&image)?);
    let frame = user.eds(["cat", &registered, "--frame", "1"])?.success()?.stdout;
    assert_eq!(frame.len(), 128 * 128 * 2);
    assert!(files::contains(&fs::read(&image)?, &frame), "the frame is that of the image");

    let large: Vec<u8> = (0..20_000_000u32).map(|number| number.to_le_bytes()[usize::from(number % 7 == 0)]).collect();
    fs::write(user.home().join("large"), &large)?;
    let registered = user.eds(["register", "--opaque", "large"])?.success()?.id();
    user.eds(["retrieve", &registered, "-o", "large.back"])?.success()?;
    assert!(fs::read(user.home().join("large.back"))? == large, "a large file comes back");
    Ok(())
}

fn holds_nothing_of_the_patient(folder: &Path) -> Outcome {
    let held = files::holding(folder, &dicom::CT_PATIENT)?;
    assert!(held.is_empty(), "{held:?}");
    Ok(())
}

#[test]
fn a_physician_works_with_images_at_a_grid_storage() -> Outcome {
    Lab::inside("a_physician_works_with_images_at_a_grid_storage", |lab| {
        let mut xrootd = Xrootd::start(lab)?;
        let cluster = Cluster::of_three()?;
        let user = cluster.user("alice")?;
        let proxy = lab.physician()?;
        let url = davs(lab, &xrootd, &proxy)?.url().to_string();
        at(
            &user,
            &format!("name = \"grid\"\nurl = \"{url}\"\nproxy = {proxy:?}\nca = {:?}", lab.grid().authorities()),
        )?;
        story(&user)?;
        holds_nothing_of_the_patient(&xrootd.data())?;

        // Who may not write there is told so, and nothing is left half-done.
        let stranger = cluster.user("bob")?;
        let proxy = lab.researcher()?;
        at(
            &stranger,
            &format!("name = \"grid\"\nurl = \"{url}\"\nproxy = {proxy:?}\nca = {:?}", lab.grid().authorities()),
        )?;
        let image = dicom::ct_small()?;
        let refused = stranger.eds(["register".as_ref(), image.as_os_str()])?;
        refused.refused(exit::DENIED, &["storage grid", "does not permit it", "hint:"])?;

        // And who finds nobody there.
        xrootd.stop()?;
        let away = user.eds(["register".as_ref(), image.as_os_str()])?;
        assert!(
            away.code == Some(0),
            "it is registered already, and that is known without the storage: {}",
            away.stderr
        );
        fs::write(user.home().join("other"), "another file")?;
        user.eds(["register", "--opaque", "other"])?.refused(exit::UNAVAILABLE, &["cannot be reached", "hint:"])?;
        user.eds(["doctor"])?.failed(exit::UNAVAILABLE, &[])?;
        Ok(())
    })
}

#[test]
fn a_researcher_works_with_images_in_a_bucket() -> Outcome {
    Lab::inside("a_researcher_works_with_images_in_a_bucket", |lab| {
        let seaweed = Seaweed::start(lab)?;
        let cluster = Cluster::of_three()?;
        let user = cluster.user("bob")?;
        let site = s3(&seaweed)?;
        let url = site.url();
        let (endpoint, key) = (seaweed.endpoint(), seaweed.key_file());
        at(&user, &format!("name = \"cloud\"\nurl = \"{url}\"\nendpoint = \"{endpoint}\"\nkey_file = {key:?}"))?;
        story(&user)?;
        holds_nothing_of_the_patient(&seaweed.data())?;

        let other = cluster.user("carol")?;
        let key = seaweed.wrong_key_file();
        at(&other, &format!("name = \"cloud\"\nurl = \"{url}\"\nendpoint = \"{endpoint}\"\nkey_file = {key:?}"))?;
        let image = dicom::ct_small()?;
        let refused = other.eds(["register".as_ref(), image.as_os_str()])?;
        refused.refused(exit::DENIED, &["storage cloud", "does not permit it"])?;
        Ok(())
    })
}
