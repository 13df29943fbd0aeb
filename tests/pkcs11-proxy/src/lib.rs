//! A PKCS#11 module for tests, in the manner of a network HSM: every call goes over a socket to a daemon
//! (`eds-pkcs11-daemon`) that owns a SoftHSM and can be killed and started again.
//!
//! Two variables of the environment name its surroundings. `EDS_PROXY_SOCKET` is the socket of the daemon; while nobody
//! listens there, every call returns CKR_DEVICE_ERROR. `EDS_PROXY_CONTROL` is a folder with the file `faults`, read at
//! each call: lines `C_Name fail CODE` (decimal) and `C_Name hang`, where `*` stands for all calls. It adds the names of
//! the rare calls that tests count (`C_Initialize`, `C_Finalize`, `C_Login`) to the file `calls` there.
//!
//! Not for production: it checks nothing and sends PINs in the clear.

mod faults;
mod module;
pub mod wire;
