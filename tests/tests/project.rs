//! Two sites with catalogs, storage and metadata of their own, that take part in one project: the same patient, study and image
//! have the same names at both; without that, they do not.

use std::fs;

use eds_tests::{
    Outcome, Trouble,
    cluster::Cluster,
    dicom,
    user::{User, exit},
};

/// Registers the CT; returns what stands for patient, study and image.
fn names(user: &User) -> Outcome<[String; 3]> {
    fs::copy(dicom::ct_small()?, user.home().join("scan.dcm"))?;
    let id = user.eds(["register", "scan.dcm"])?.success()?.id();
    user.eds(["retrieve", &id, "-o", "research.dcm"])?.success()?;
    let told = |error: &dyn std::fmt::Display| Trouble::new(error.to_string());
    let object = dicom_object::open_file(user.home().join("research.dcm")).map_err(|error| told(&error))?;
    let text = |name: &str| -> Outcome<String> {
        let element = object.element_by_name(name).map_err(|error| told(&error))?;
        Ok(element.to_str().map_err(|error| told(&error))?.into_owned())
    };
    let [patient, study, image] = [text("PatientID")?, text("StudyInstanceUID")?, text("SOPInstanceUID")?];
    assert!(patient.starts_with("P-") && study.starts_with("2.25.") && image.starts_with("2.25."), "{patient} {study}");
    Ok([patient, study, image])
}

#[test]
fn two_sites_of_one_project_give_the_same_names() -> Outcome {
    let cluster = Cluster::of_three()?;
    let (north, south, other) = (cluster.user("north")?, cluster.user("south")?, cluster.user("other")?);
    north.eds(["project", "show"])?.failed(exit::NOT_FOUND, &[])?;
    let of_north = names(&north)?;
    let shown = north.eds(["project", "show"])?.success()?.text();
    let key = |word: &str| {
        let line = shown.lines().find_map(|line| line.strip_prefix(&format!("{word}\t")));
        line.unwrap_or_default().to_owned()
    };
    let join = ["project", "join", "--uids", &key("uids"), "--search", &key("search")].map(str::to_owned);

    // Whom the keys are not shared with cannot take part, and keeps no trace of trying.
    south.eds(&join)?.failed(exit::DENIED, &["permission g"])?;
    south.eds(["project", "show"])?.failed(exit::NOT_FOUND, &[])?;
    let shared = north.eds(["project", "share", &south.name()?])?.success()?;
    assert!(shared.stderr.contains(&join.join(" ")), "{shared:?}");
    south.eds(&join)?.success()?;
    assert_eq!(names(&south)?, of_north);
    // Each finds its own by the patient, with the key that both have.
    assert_eq!(south.eds(["search", "PatientID=1CT1", "-o", "ids"])?.success()?.text().lines().count(), 1);

    // A project of its own: other names, and no way to mix the two.
    let of_other = names(&other)?;
    for (one, another) in of_other.iter().zip(&of_north) {
        assert_ne!(one, another);
    }
    north.eds(["project", "share", &other.name()?])?.success()?;
    other.eds(&join)?.failed(exit::CONFLICT, &["belongs to another project already", "hint:"])?;
    assert_eq!(names_again(&other)?, of_other);
    Ok(())
}

/// What stands in the image that is registered.
fn names_again(user: &User) -> Outcome<[String; 3]> {
    fs::remove_file(user.home().join("research.dcm"))?;
    names(user)
}
