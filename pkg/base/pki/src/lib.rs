//! The CA, certificates, keys and kubeconfigs.
//!
//! `cmd/edgek` opens [`Pki`] at start; `apiserver/http` serves with [`Serving`]; `client` reads kubeconfigs.
//! All keys are ECDSA P-256 made by ring; all private files are 0600 and replaced atomically.
//!
//! Certificates of edgek are valid from 1970, so that a board without a battery clock can use them before it
//! learns the time, and never end before [`clock::floor`] plus their lifetime.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "tests"))]

mod anybody;
pub mod authority;
pub mod clock;
mod der;
pub mod kubeconfig;
mod peer;
pub mod request;
mod serving;
mod store;

pub use anybody::believing_anybody;
pub use authority::{Authority, Issued, Subject};
pub use der::pem;
pub use peer::Peer;
pub use request::{SigningRequest, Usage};
pub use serving::{Serving, Shown};
pub use store::{Pki, open_key};

use std::path::PathBuf;

/// Why a key, certificate or kubeconfig could not be made or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file of the PKI could not be read.
    #[error("reading {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the file system answered.
        source: std::io::Error,
    },
    /// A file of the PKI could not be written.
    #[error("writing {path}")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the file system answered.
        source: std::io::Error,
    },
    /// A file holds something else than its name says.
    #[error(
        "{path} is not a valid {what}; restore it from a backup, or remove it together with its key to have new ones made"
    )]
    Invalid {
        /// The file.
        path: PathBuf,
        /// `certificate` or `private key`.
        what: &'static str,
    },
    /// The certificate exists and its key does not, or the other way round.
    #[error("{missing} is missing but {present} exists; restore the missing file from a backup")]
    HalfPair {
        /// The file that is not there.
        missing: PathBuf,
        /// The file that is.
        present: PathBuf,
    },
    /// A key or certificate could not be generated.
    #[error("generating {what}")]
    Generate {
        /// What was to be made.
        what: String,
        /// What the generator answered.
        source: rcgen::Error,
    },
    /// A certificate request, or what it is to be signed with, is unusable.
    #[error("the certificate request cannot be signed: {0}")]
    Request(String),
    /// rustls does not accept a certificate that was just made, or a setting.
    #[error("preparing TLS")]
    Rustls(#[from] rustls::Error),
}
