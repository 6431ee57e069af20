//! The pod template: what `Pod` and every kind with a `template` share. Defaults and validation, as upstream's
//! `pkg/apis/core/v1/defaults.go` and `pkg/apis/core/validation/validation.go`.

mod affinity;
mod container;
mod defaults;
mod dns;
mod quality;
mod resources;
mod security;
mod spec;
mod update;
mod volume;
pub(crate) mod warnings;

pub(crate) use container::{port_number, port_number_or_name};
pub(crate) use defaults::{pod as default_pod, template as default_template};
pub(crate) use dns::NO_ADDRESS;
pub(crate) use quality::quality;
pub(crate) use spec::{NOT_NEGATIVE, Use, template as validate_template, validate as validate_spec};
pub(crate) use update::{
    ephemeral_containers as validate_ephemeral_containers_update, pod as validate_pod_update,
    resize as validate_resize,
};
