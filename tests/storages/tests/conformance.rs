//! Every storage keeps the same promises, over real servers.

use std::{fs, path::Path};

use eds::storage::{Error, Site, conformance};
use eds_storage_tests::{davs, root, s3, sftp, srm, webdav};
use eds_tests::{
    Outcome, give_up,
    storages::{Apache, Lab, Seaweed, Srm, Sshd, Xrootd},
};

/// The whole suite, and what is asked of stores elsewhere beyond it.
fn conforms(site: &Site) -> Outcome {
    let store = site.open()?;
    store.check()?;
    conformance::run(&*store);
    // By URL, as copies of other tools are.
    let name = conformance::put(&*store, b"by its url");
    let url = site.url_of(&name);
    let mut text = String::new();
    std::io::Read::read_to_string(&mut site.open_url(&url)?, &mut text)?;
    assert_eq!(text, "by its url", "{url}");
    site.delete_url(&url)?;
    assert!(matches!(store.open(&name), Err(Error::NotFound { .. })));
    Ok(())
}

/// Nothing of an upload is left under a temporary name, and every name is a file id.
fn is_clean(folder: &Path) -> Outcome {
    let mut left = vec![folder.to_path_buf()];
    let mut files = 0;
    while let Some(next) = left.pop() {
        for entry in fs::read_dir(next)? {
            let path = entry?.path();
            if path.is_dir() {
                left.push(path);
                continue;
            }
            let name = path.strip_prefix(folder)?.display().to_string();
            // Apache keeps properties beside its files.
            if !name.contains(".DAV/") {
                files += 1;
                let tail: String = name.chars().rev().take(42).collect::<Vec<_>>().into_iter().rev().collect();
                if tail.parse::<eds::storage::ObjectName>().is_err() {
                    give_up!("{name} is no name of an object");
                }
            }
        }
    }
    assert!(files > 0, "there is nothing in {}", folder.display());
    Ok(())
}

#[test]
fn xrootd_conforms_over_http_with_a_proxy() -> Outcome {
    Lab::inside("xrootd_conforms_over_http_with_a_proxy", |lab| {
        let xrootd = Xrootd::start(lab)?;
        conforms(&davs(lab, &xrootd, &lab.physician()?)?)?;
        is_clean(&xrootd.data())
    })
}

#[test]
fn xrootd_conforms_over_its_own_protocol() -> Outcome {
    Lab::inside("xrootd_conforms_over_its_own_protocol", |lab| {
        let xrootd = Xrootd::start(lab)?;
        conforms(&root(&xrootd, &lab.physician()?)?)?;
        is_clean(&xrootd.data())
    })
}

#[test]
fn a_storage_resource_manager_conforms() -> Outcome {
    Lab::inside("a_storage_resource_manager_conforms", |lab| {
        let manager = Srm::start(lab)?;
        conforms(&srm(&manager, &lab.physician()?)?)?;
        is_clean(&manager.data())
    })
}

#[test]
fn apache_conforms() -> Outcome {
    Lab::inside("apache_conforms", |lab| {
        let apache = Apache::start(lab)?;
        conforms(&webdav(lab, &apache)?)?;
        is_clean(&apache.data())
    })
}

#[test]
fn s3_conforms() -> Outcome {
    Lab::inside("s3_conforms", |lab| conforms(&s3(&Seaweed::start(lab)?)?))
}

#[test]
fn sftp_conforms() -> Outcome {
    Lab::inside("sftp_conforms", |lab| {
        let sshd = Sshd::start(lab)?;
        conforms(&sftp(&sshd)?)?;
        is_clean(&sshd.data())
    })
}
