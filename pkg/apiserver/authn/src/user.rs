//! `User`: the identity of a caller, as authorization, admission and audit see it.

use std::collections::BTreeMap;

/// The group of everyone who presented valid credentials.
pub const ALL_AUTHENTICATED: &str = "system:authenticated";
/// The group of everyone who presented none.
pub const ALL_UNAUTHENTICATED: &str = "system:unauthenticated";
/// The group whose members may do everything.
pub const PRIVILEGED_GROUP: &str = "system:masters";
/// The group of the nodes that run beside an API server, in its process. No certificate is given for it.
pub const SERVERS: &str = "edgek:servers";
/// The name of those who presented no credentials.
pub const ANONYMOUS: &str = "system:anonymous";

/// An identity. Names and groups beginning with `system:` are reserved.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct User {
    /// The unique name, such as `system:node:edge-1`.
    pub name: String,
    /// An identifier that tells two users of the same name at different times apart; empty when unknown.
    pub uid: String,
    /// The groups the user is in.
    pub groups: Vec<String>,
    /// What the authenticator knows besides, such as the pod a service account token is bound to.
    pub extra: BTreeMap<String, Vec<String>>,
}

impl User {
    /// A user of this name in these groups.
    pub fn new<G: Into<String>>(name: impl Into<String>, groups: impl IntoIterator<Item = G>) -> Self {
        Self { name: name.into(), groups: groups.into_iter().map(Into::into).collect(), ..Self::default() }
    }

    /// The user among all those whose credentials are valid.
    #[must_use]
    pub fn authenticated(mut self) -> Self {
        if !self.is_in(ALL_AUTHENTICATED) {
            self.groups.push(ALL_AUTHENTICATED.to_owned());
        }
        self
    }

    /// Who asks without credentials.
    pub fn anonymous() -> Self {
        Self::new(ANONYMOUS, [ALL_UNAUTHENTICATED])
    }

    /// Whether the user is in this group.
    pub fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|member| member == group)
    }
}
