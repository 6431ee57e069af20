//! Who may: RBAC and the Node authorizer.
