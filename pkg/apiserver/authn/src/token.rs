//! Service-account tokens: JWTs signed with ES256, as upstream's bound tokens (KEP-1205).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use parking_lot::Mutex;
use ring::digest::{SHA256, digest};
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, UnparsedPublicKey,
};
use rustls_pki_types::{PrivatePkcs8KeyDer, pem::PemObject as _};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{Error, User, bootstrap};

/// How long a verified token is believed without verifying it again; as upstream.
const BELIEVED: Duration = Duration::from_secs(10);
const REMEMBERED: usize = 1024;
const MAX_TOKEN: usize = 16 << 10;
/// The DER head of a P-256 SubjectPublicKeyInfo, before the 65 bytes of the point.
const P256_SPKI_HEAD: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
    0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// What a token says, in the names of RFC 7519.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub struct Claims {
    /// Whom the token is meant for.
    pub aud: Vec<String>,
    /// When it ends, seconds since 1970.
    pub exp: u64,
    /// When it was made.
    pub iat: u64,
    /// Who made it.
    pub iss: String,
    /// An identifier of this token.
    pub jti: String,
    /// The objects it is bound to.
    #[serde(rename = "kubernetes.io")]
    pub kubernetes: BoundObject,
    /// When it begins.
    pub nbf: u64,
    /// `system:serviceaccount:<namespace>:<name>`.
    pub sub: String,
}

/// The objects a token is bound to: when one of them is gone, so is the token.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq, Default)]
pub struct BoundObject {
    /// The service account's namespace.
    pub namespace: String,
    /// The node of the bound pod, or the bound node.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub node: Option<ObjectRef>,
    /// The bound pod.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub pod: Option<ObjectRef>,
    /// The bound secret.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub secret: Option<ObjectRef>,
    /// The service account.
    pub serviceaccount: ObjectRef,
    /// When clients should have fetched a new token, seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub warnafter: Option<u64>,
}

/// An object by name and uid.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq, Default)]
pub struct ObjectRef {
    /// The name.
    pub name: String,
    /// The uid; empty when unknown.
    #[serde(default)]
    pub uid: String,
}

/// A kind of object that tokens can be bound to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Object {
    /// `serviceaccounts`.
    ServiceAccount,
    /// `pods`.
    Pod,
    /// `secrets`.
    Secret,
    /// `nodes`, whose namespace is empty.
    Node,
}

/// Looks objects up in the cluster.
pub trait Objects: Send + Sync + 'static {
    /// The uid of an object that exists and, if it is being deleted, whose grace period is not over.
    fn uid(&self, object: Object, namespace: &str, name: &str) -> Option<String>;

    /// The Secret of the bootstrap token with this id.
    fn bootstrap_token(&self, _id: &str) -> Option<Value> {
        None
    }
}

/// Signs and verifies service-account tokens.
pub struct Tokens {
    key: EcdsaKeyPair,
    key_id: String,
    issuer: String,
    audiences: Vec<String>,
    objects: Arc<dyn Objects>,
    random: SystemRandom,
    believed: Mutex<HashMap<[u8; 32], (Instant, Claims)>>,
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokens").field("issuer", &self.issuer).finish_non_exhaustive()
    }
}

impl Tokens {
    /// Tokens signed with `key` (PKCS #8 PEM) in the name of `issuer`, which is also the API server's audience.
    ///
    /// # Errors
    /// When `key` is not a P-256 key.
    pub fn new(key: &str, issuer: &str, objects: Arc<dyn Objects>) -> Result<Self, Error> {
        let random = SystemRandom::new();
        let unusable = || Error::Token("the service-account key is not an ECDSA P-256 key".to_owned());
        let der = PrivatePkcs8KeyDer::from_pem_slice(key.as_bytes()).map_err(|_| unusable())?;
        let signing = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let key =
            EcdsaKeyPair::from_pkcs8(signing, der.secret_pkcs8_der(), &random).map_err(|_| unusable())?;
        let spki = [&P256_SPKI_HEAD[..], key.public_key().as_ref()].concat();
        let key_id = URL_SAFE_NO_PAD.encode(digest(&SHA256, &spki));
        let audiences = vec![issuer.to_owned()];
        Ok(Self {
            key,
            key_id,
            issuer: issuer.to_owned(),
            audiences,
            objects,
            random,
            believed: Mutex::default(),
        })
    }

    /// The audiences of a token that names none, which are those of the API server.
    pub fn audiences(&self) -> &[String] {
        &self.audiences
    }

    /// The issuer, as it stands in every token.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Signs a token. An empty audience means the API server.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn sign(
        &self,
        audiences: Vec<String>,
        lifetime: Duration,
        bound: BoundObject,
    ) -> Result<(String, Claims), Error> {
        let now = seconds_now();
        let claims = Claims {
            aud: if audiences.is_empty() { self.audiences.clone() } else { audiences },
            exp: now + lifetime.as_secs(),
            iat: now,
            iss: self.issuer.clone(),
            jti: self.random_id()?,
            sub: format!("system:serviceaccount:{}:{}", bound.namespace, bound.serviceaccount.name),
            kubernetes: bound,
            nbf: now,
        };
        let head = json!({"alg": "ES256", "kid": self.key_id});
        let body = serde_json::to_vec(&claims).map_err(|error| Error::Token(error.to_string()))?;
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(head.to_string()), URL_SAFE_NO_PAD.encode(body));
        let signature = self.key.sign(&self.random, signed.as_bytes());
        let signature = signature.map_err(|_| Error::Token("no randomness".to_owned()))?;
        Ok((format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)), claims))
    }

    fn random_id(&self) -> Result<String, Error> {
        use ring::rand::SecureRandom as _;
        let mut bytes = [0; 16];
        self.random.fill(&mut bytes).map_err(|_| Error::Token("no randomness".to_owned()))?;
        let id = u128::from_be_bytes(bytes);
        Ok(format!(
            "{:08x}-{:04x}-4{:03x}-8{:03x}-{:012x}",
            id >> 96,
            id >> 80 & 0xffff,
            id >> 64 & 0xfff,
            id >> 48 & 0xfff,
            id & 0xffff_ffff_ffff
        ))
    }

    /// The user of a token meant for one of `audiences` (empty: the API server's), and those audiences it shares.
    ///
    /// # Errors
    /// When the token is not ours, has ended, is meant for others, or an object it is bound to is gone.
    pub fn user(&self, token: &str, audiences: &[String]) -> Result<(Arc<User>, Vec<String>), Error> {
        let wrong = |text: &str| Error::Token(text.to_owned());
        if let Some((id, secret)) = bootstrap::parts(token) {
            if !audiences.is_empty() && !audiences.iter().any(|audience| self.audiences.contains(audience)) {
                return Err(wrong("a bootstrap token is only for the API server"));
            }
            let user = bootstrap::user(self.objects.bootstrap_token(id).as_ref(), id, secret)?;
            return Ok((Arc::new(user), self.audiences.clone()));
        }
        let claims = self.verified(token)?;
        if seconds_now() >= claims.exp {
            return Err(wrong("token has expired"));
        }
        let wanted = if audiences.is_empty() { &self.audiences } else { audiences };
        let shared: Vec<String> = claims.aud.iter().filter(|a| wanted.contains(a)).cloned().collect();
        if shared.is_empty() {
            return Err(Error::Token(format!(
                "token audiences {:?} is invalid for the target audiences {wanted:?}",
                claims.aud
            )));
        }
        self.check_bound_objects(&claims.kubernetes)?;
        Ok((Arc::new(user_of(&claims)), shared))
    }

    fn verified(&self, token: &str) -> Result<Claims, Error> {
        let wrong = |text: &str| Error::Token(text.to_owned());
        if token.len() > MAX_TOKEN {
            return Err(wrong("token is too long"));
        }
        let mut key = [0; 32];
        key.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
        if let Some((at, claims)) = self.believed.lock().get(&key)
            && at.elapsed() < BELIEVED
        {
            return Ok(claims.clone());
        }
        let (signed, signature) = token.rsplit_once('.').ok_or_else(|| wrong("not a JWT"))?;
        let (head, body) = signed.split_once('.').ok_or_else(|| wrong("not a JWT"))?;
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| wrong("not base64url"));
        let head: Value = serde_json::from_slice(&decode(head)?).map_err(|_| wrong("unreadable header"))?;
        if head["alg"] != "ES256" {
            return Err(wrong("not signed with ES256"));
        }
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, self.key.public_key().as_ref())
            .verify(signed.as_bytes(), &decode(signature)?)
            .map_err(|_| wrong("signature is not ours"))?;
        let claims: Claims =
            serde_json::from_slice(&decode(body)?).map_err(|_| wrong("unreadable claims"))?;
        if claims.iss != self.issuer {
            return Err(wrong("issued by somebody else"));
        }
        // `nbf` is not judged: only this key signs, and a clock that was set back must not lock everybody out.
        let mut believed = self.believed.lock();
        if believed.len() >= REMEMBERED {
            believed.clear();
        }
        believed.insert(key, (Instant::now(), claims.clone()));
        Ok(claims)
    }

    fn check_bound_objects(&self, bound: &BoundObject) -> Result<(), Error> {
        let check = |object: Object, reference: &ObjectRef, namespace: &str| {
            let uid = self.objects.uid(object, namespace, &reference.name);
            if uid.is_none() || (!reference.uid.is_empty() && uid.as_ref() != Some(&reference.uid)) {
                return Err(Error::Token(format!("{object:?} {namespace}/{} is gone", reference.name)));
            }
            Ok(())
        };
        let namespace = &bound.namespace;
        check(Object::ServiceAccount, &bound.serviceaccount, namespace)?;
        match (&bound.pod, &bound.secret, &bound.node) {
            (Some(pod), _, _) => check(Object::Pod, pod, namespace),
            (None, Some(secret), _) => check(Object::Secret, secret, namespace),
            (None, None, Some(node)) => check(Object::Node, node, ""),
            (None, None, None) => Ok(()),
        }
    }

    /// The public key as a JSON Web Key Set, served at `/openid/v1/jwks`.
    pub fn jwks(&self) -> Value {
        let point = self.key.public_key().as_ref();
        let (x, y) = point[1..].split_at(32);
        let [x, y] = [x, y].map(|coordinate| URL_SAFE_NO_PAD.encode(coordinate));
        json!({"keys": [{"use": "sig", "kty": "EC", "kid": self.key_id, "crv": "P-256", "alg": "ES256", "x": x, "y": y}]})
    }

    /// The document served at `/.well-known/openid-configuration`; `jwks_uri` is where clients find [`Self::jwks`].
    pub fn openid_configuration(&self, jwks_uri: &str) -> Value {
        json!({
            "issuer": self.issuer,
            "jwks_uri": jwks_uri,
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256"],
        })
    }
}

fn user_of(claims: &Claims) -> User {
    let bound = &claims.kubernetes;
    let namespace_group = format!("system:serviceaccounts:{}", bound.namespace);
    let groups = ["system:serviceaccounts".to_owned(), namespace_group];
    let mut user = User::new(claims.sub.clone(), groups).authenticated();
    user.uid.clone_from(&bound.serviceaccount.uid);
    let mut extra = |key: &str, value: &str| {
        if !value.is_empty() {
            user.extra.insert(format!("authentication.kubernetes.io/{key}"), vec![value.to_owned()]);
        }
    };
    extra("credential-id", &format!("JTI={}", claims.jti));
    if let Some(pod) = &bound.pod {
        extra("pod-name", &pod.name);
        extra("pod-uid", &pod.uid);
    }
    if let Some(node) = &bound.node {
        extra("node-name", &node.name);
        extra("node-uid", &node.uid);
    }
    user
}

fn seconds_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A cluster with the service account ns/sa (uid 1) and the pod ns/pod (uid 2).
    struct Cluster;

    impl Objects for Cluster {
        fn uid(&self, object: Object, namespace: &str, name: &str) -> Option<String> {
            match (object, namespace, name) {
                (Object::ServiceAccount, "ns", "sa") => Some("1".into()),
                (Object::Pod, "ns", "pod") => Some("2".into()),
                _ => None,
            }
        }
    }

    fn tokens() -> Tokens {
        let key = rcgen::KeyPair::generate().unwrap().serialize_pem();
        Tokens::new(&key, "https://kubernetes.default.svc.cluster.local", Arc::new(Cluster)).unwrap()
    }

    fn reference(name: &str, uid: &str) -> ObjectRef {
        ObjectRef { name: name.into(), uid: uid.into() }
    }

    fn bound(account_uid: &str, pod: Option<ObjectRef>) -> BoundObject {
        BoundObject {
            namespace: "ns".into(),
            serviceaccount: reference("sa", account_uid),
            pod,
            ..BoundObject::default()
        }
    }

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn a_token_is_valid_while_the_objects_it_is_bound_to_exist() {
        let tokens = tokens();
        let check = |bound: BoundObject, valid: bool| {
            let (token, _) = tokens.sign(vec![], HOUR, bound).unwrap();
            assert_eq!(tokens.user(&token, &[]).is_ok(), valid);
        };
        check(bound("1", None), true);
        check(bound("1", Some(reference("pod", "2"))), true);
        check(bound("9", None), false);
        check(bound("1", Some(reference("pod", "9"))), false);
        check(bound("1", Some(reference("gone", "2"))), false);
    }

    #[test]
    fn the_user_is_the_service_account_in_its_groups() {
        let tokens = tokens();
        let (token, _) = tokens.sign(vec![], HOUR, bound("1", Some(reference("pod", "2")))).unwrap();
        let (user, _) = tokens.user(&token, &[]).unwrap();
        assert_eq!(user.name, "system:serviceaccount:ns:sa");
        assert_eq!(
            user.groups,
            ["system:serviceaccounts", "system:serviceaccounts:ns", "system:authenticated"]
        );
        assert_eq!(user.extra["authentication.kubernetes.io/pod-name"], ["pod"]);
    }

    #[test]
    fn a_token_is_only_good_for_its_audiences_and_its_time() {
        let tokens = tokens();
        let (vault, _) = tokens.sign(vec!["vault".into()], HOUR, bound("1", None)).unwrap();
        assert!(tokens.user(&vault, &[]).is_err());
        assert_eq!(tokens.user(&vault, &["x".into(), "vault".into()]).unwrap().1, ["vault"]);
        let (ended, _) = tokens.sign(vec![], Duration::ZERO, bound("1", None)).unwrap();
        assert!(tokens.user(&ended, &[]).is_err());
    }

    #[test]
    fn a_token_that_was_changed_or_signed_by_another_key_is_refused() {
        let tokens = tokens();
        let (token, claims) = tokens.sign(vec![], HOUR, bound("1", None)).unwrap();
        assert!(super::tests::tokens().user(&token, &[]).is_err());
        let mut parts: Vec<String> = token.split('.').map(str::to_owned).collect();
        let more = Claims { exp: claims.exp + 1, ..claims };
        parts[1] = URL_SAFE_NO_PAD.encode(serde_json::to_vec(&more).unwrap());
        assert!(tokens.user(&parts.join("."), &[]).is_err());
        parts[0] = URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#);
        parts[2] = String::new();
        assert!(tokens.user(&parts.join("."), &[]).is_err());
        for garbage in ["", ".", "..", "a.b.c", "🦀.🦀.🦀"] {
            assert!(tokens.user(garbage, &[]).is_err());
        }
    }
}
