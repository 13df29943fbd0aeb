//! `eds login` and `eds logout`: a token from the hospital's identity provider, kept for the commands after it.

use clap::Args;
use tokio::runtime::Builder;

use super::Options;
use crate::{
    Error,
    config::{Config, Login as Settings},
    credentials::{Place, Places, in_words},
    login::{self, Code},
};

/// The arguments of `eds login`.
#[derive(Args, Debug)]
pub struct Login {}

/// The arguments of `eds logout`.
#[derive(Args, Debug)]
pub struct Logout {}

impl Login {
    pub(super) fn run(self, options: &Options) -> Result<(), Error> {
        let config = options.load()?;
        let settings = settings(&config)?;
        let places = Places::of_process(&config);
        let file = login::place(&config, settings, places.environment, places.user);
        let session = run(login::log_in(settings, show))?.map_err(Error::Login)?;
        session.keep(&file).map_err(Error::Login)?;
        let claims = session.token.claims();
        let renewed = if session.refresh.is_some() { ", renewed by itself as long as the issuer allows" } else { "" };
        eprintln!("logged in as {}: a token until {}{renewed}", claims.name(), in_words(claims.expires));
        match places.find(config.identity.wanted).first() {
            Some(Place::Login { .. }) => {}
            Some(other) => eprintln!(
                "note: eds goes on to send the {} from {other}; --proof token, or use = \"token\" under [identity], sends \
                 this one",
                other.kind()
            ),
            None => eprintln!("note: the configuration asks for another proof; --proof token sends this one"),
        }
        Ok(())
    }
}

impl Logout {
    pub(super) fn run(self, options: &Options) -> Result<(), Error> {
        let config = options.load()?;
        let settings = settings(&config)?;
        let places = Places::of_process(&config);
        let file = login::place(&config, settings, places.environment, places.user);
        let (was, untold) = run(login::log_out(settings, &file))?.map_err(Error::Login)?;
        if let Some(error) = untold {
            eprintln!("eds: warning: the issuer could not be told: {error}");
        }
        eprintln!("{}", if was { "logged out" } else { "nobody was logged in" });
        Ok(())
    }
}

fn settings(config: &Config) -> Result<&Settings, Error> {
    config.login.as_ref().ok_or(Error::Login(login::Error::NotConfigured))
}

fn run<T>(work: impl Future<Output = T>) -> Result<T, Error> {
    let runtime = Builder::new_current_thread().enable_all().build().map_err(Error::Runtime)?;
    Ok(runtime.block_on(work))
}

fn show(code: &Code) {
    eprintln!("Open this page on any device:\n\n    {}\n\nand enter the code\n\n    {}\n", code.page, code.code);
    if let Some(page) = &code.page_with_code {
        eprintln!("or open it with the code filled in, and compare the code:\n\n    {page}\n");
    }
    eprintln!("It can be used for {} minutes. Waiting …", code.lifetime.as_secs() / 60);
}
