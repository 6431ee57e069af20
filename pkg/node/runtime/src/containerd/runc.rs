//! The runtime containerd starts for every container: the runc shim and its options.

use containerd_client::services::v1::container::Runtime;
use prost::Message;
use prost_types::Any;

use super::Config;

const SHIM: &str = "io.containerd.runc.v2";
const OPTIONS_TYPE: &str = "containerd.runc.v1.Options";

/// The fields edgek sets of `containerd.runc.v1.Options` (containerd's `api/types/runc/options/oci.proto`).
#[derive(Clone, PartialEq, Message)]
struct Options {
    /// Where runc is; empty for the one in `PATH`.
    #[prost(string, tag = "6")]
    binary_name: String,
    /// Where runc keeps its state.
    #[prost(string, tag = "7")]
    root: String,
}

/// The runtime of a container record.
pub(super) fn runtime(config: &Config) -> Runtime {
    Runtime { name: SHIM.to_owned(), options: Some(options(config)) }
}

/// The options of a task.
pub(super) fn options(config: &Config) -> Any {
    let options = Options {
        binary_name: config.runc.as_ref().map(|path| path.to_string_lossy().into_owned()).unwrap_or_default(),
        root: config.state_dir.join("runc").to_string_lossy().into_owned(),
    };
    Any { type_url: OPTIONS_TYPE.to_owned(), value: options.encode_to_vec() }
}
