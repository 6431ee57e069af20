//! `Image`: what the runtime knows about an image on this node.

use std::path::PathBuf;

/// An image on this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// `sha256:…` of the image's config: its identity.
    pub id: String,
    /// Names with a tag: `docker.io/library/busybox:1.36`.
    pub tags: Vec<String>,
    /// Names with a digest: `docker.io/library/busybox@sha256:…`.
    pub digests: Vec<String>,
    /// Bytes of the image as stored.
    pub size: u64,
    /// The user of the image's config (`uid`, `name`, `uid:gid`, `name:group`); empty for root.
    pub user: String,
    /// Whether image garbage collection must leave it alone.
    pub pinned: bool,
}

impl Image {
    /// What a container status shows as `imageID`: a name with digest, else the id.
    pub fn reference(&self) -> &str {
        self.digests.first().unwrap_or(&self.id)
    }
}

/// How to log in to a registry for one pull.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    /// User name and password.
    Basic {
        /// The user name.
        username: String,
        /// The password or access token.
        password: String,
    },
    /// An OAuth2 refresh token (`identitytoken` of a docker config).
    Identity(String),
    /// A bearer token for the registry (`registrytoken`).
    Bearer(String),
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credentials(..)")
    }
}

/// Where images and writable layers live, for the disk-pressure condition and image garbage collection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageFilesystem {
    /// A directory on that filesystem: the caller asks the kernel for capacity and free space.
    pub path: PathBuf,
    /// Bytes used by all images.
    pub used_bytes: u64,
}
