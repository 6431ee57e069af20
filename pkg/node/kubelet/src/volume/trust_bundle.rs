//! Trust anchors for pods, gathered from cluster trust bundles (KEP-3257). Called by `payload`.

use std::collections::BTreeSet;

use edgek_api::selector::label::Selector;
use edgek_base_pki::pem;
use edgek_client::{Client, ListQuery};
use k8s_openapi::api::certificates::v1::ClusterTrustBundle;
use k8s_openapi::api::core::v1::ClusterTrustBundleProjection;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

const CERTIFICATE: &str = "CERTIFICATE";

/// The selected bundles as one PEM file, each certificate once.
pub(super) async fn anchors(
    client: &Client,
    source: &ClusterTrustBundleProjection,
) -> Result<String, String> {
    let bundles = match (&source.name, &source.signer_name) {
        (Some(name), _) => by_name(client, name).await?,
        (None, Some(signer)) => by_signer(client, signer, source).await?,
        (None, None) => {
            return Err(
                "ClusterTrustBundle projection requires either name or signerName to be set".to_owned()
            );
        }
    };
    if bundles.is_empty() && source.optional != Some(true) {
        return Err(match &source.name {
            Some(name) => format!(
                "while getting ClusterTrustBundle: clustertrustbundle.certificates.k8s.io {name:?} not found"
            ),
            None => "combination of signerName and labelSelector matched zero ClusterTrustBundles".to_owned(),
        });
    }
    Ok(merge(bundles.iter().map(|bundle| bundle.spec.trust_bundle.as_str())))
}

async fn by_name(client: &Client, name: &str) -> Result<Vec<ClusterTrustBundle>, String> {
    match client.cluster::<ClusterTrustBundle>().get(name).await {
        Ok(bundle) => Ok(vec![bundle]),
        Err(error) if error.is_not_found() => Ok(Vec::new()),
        Err(error) => Err(format!("while getting ClusterTrustBundle: {error}")),
    }
}

async fn by_signer(
    client: &Client,
    signer: &str,
    source: &ClusterTrustBundleProjection,
) -> Result<Vec<ClusterTrustBundle>, String> {
    // Without a selector nothing is meant; with an empty one, everything.
    let Some(selector) = &source.label_selector else { return Ok(Vec::new()) };
    let selector = serde_json::to_value(selector).map_err(|error| error.to_string())?;
    let selector =
        Selector::from_object(&selector).map_err(|error| format!("while parsing label selector: {error}"))?;
    let query = ListQuery {
        labels: selector.to_string(),
        fields: format!("spec.signerName={signer}"),
        ..ListQuery::default()
    };
    let listed = client.cluster::<ClusterTrustBundle>().list(&query).await;
    let (bundles, _) = listed.map_err(|error| format!("while listing ClusterTrustBundles: {error}"))?;
    Ok(bundles)
}

/// One PEM text of all certificates; comments and what is not a certificate are left out.
fn merge<'a>(texts: impl Iterator<Item = &'a str>) -> String {
    let parsed = texts.flat_map(|text| CertificateDer::pem_slice_iter(text.as_bytes())).flatten();
    let certificates: BTreeSet<Vec<u8>> = parsed.map(|der| der.to_vec()).collect();
    certificates.iter().map(|der| pem(CERTIFICATE, der)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_of_two_bundles_is_written_once() {
        let (one, two) = (pem(CERTIFICATE, b"one"), pem(CERTIFICATE, b"two"));
        let bundles = [format!("# the first\n{one}{two}"), one.clone()];
        let merged = merge(bundles.iter().map(String::as_str));
        assert_eq!(merged, one.clone() + &two);
        assert!(one.starts_with("-----BEGIN CERTIFICATE-----\n"), "{one}");
    }
}
