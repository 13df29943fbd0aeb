//! Every route of the API, once: what serves it, and what the audit log calls it.
//!
//! The router, the names in the audit log, the description (`docs/openapi.json`) and the tests that walk all routes
//! follow this table.

use axum::{
    Router,
    routing::{get, post},
};

use crate::{
    api::{Shared, access, audit, device, fetch, keys, metrics, openapi, register, resolve, status, whoami},
    audit::Operation,
};

/// A route.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Route {
    /// `get` or `post`.
    pub method: &'static str,
    /// The path, with its variable segments in braces.
    pub path: &'static str,
    /// What the audit log calls it; nothing for what anybody may ask and what is not in the log.
    pub operation: Option<Operation>,
}

impl Route {
    /// The route of this path, as the router matched it.
    pub(super) fn of(path: &str) -> Option<&'static Self> {
        ROUTES.iter().find(|route| route.path == path)
    }
}

macro_rules! routes {
    ($($method:ident $path:literal => $handler:path $(, $operation:ident)?;)*) => {
        /// All routes.
        pub const ROUTES: &[Route] = &[$(Route {
            method: stringify!($method),
            path: $path,
            operation: routes!(@operation $($operation)?),
        }),*];

        /// The routes with what serves them.
        pub(super) fn served() -> Router<Shared> {
            Router::new()$(.route($path, $method($handler)))*
        }
    };
    (@operation) => { None };
    (@operation $operation:ident) => { Some(Operation::$operation) };
}

routes! {
    post "/v1/register" => register::handler, REGISTER;
    post "/v1/confirm" => keys::confirm, CONFIRM;
    post "/v1/withdraw" => keys::withdraw, WITHDRAW;
    post "/v1/unregister" => keys::unregister, UNREGISTER;
    post "/v1/device/register" => device::register, DEVICE_REGISTER;
    post "/v1/device/confirm" => device::confirm, DEVICE_CONFIRM;
    post "/v1/resolve" => resolve::handler, RESOLVE;
    post "/v1/fetch" => fetch::handler, FETCH;
    get "/v1/keys/{id}" => keys::information, STATE;
    post "/v1/access/read" => access::read, ACL_READ;
    post "/v1/access/change" => access::change, ACL_CHANGE;
    post "/v1/list" => access::list, LIST;
    post "/v1/why" => access::why, ACL_READ;
    get "/v1/whoami" => whoami::handler, WHOAMI;
    get "/v1/node" => status::node, NODE_INFO;
    get "/v1/audit/checkpoint" => audit::checkpoint, AUDIT_READ;
    get "/v1/audit/proof/inclusion/{index}/{size}" => audit::inclusion, AUDIT_READ;
    get "/v1/audit/proof/consistency/{old}/{new}" => audit::consistency, AUDIT_READ;
    get "/v1/openapi.json" => openapi::handler;
    get "/metrics" => metrics::handler, METRICS_READ;
    get "/healthz" => status::healthy;
    get "/readyz" => status::ready;
}
