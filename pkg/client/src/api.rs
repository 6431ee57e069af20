//! `Api`: the requests about the objects of one kind.

use std::marker::PhantomData;

use bytes::Bytes;
use http::Method;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::params::query;
use crate::{Client, Delete, Error, ListQuery, Patch, ResourceRef, Watch, WatchQuery, read_request, request};

const WHOLE: &str = "application/json";
const METADATA: &str = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";

/// The objects of one kind, in one namespace or in all.
#[derive(Debug, Clone)]
pub struct Api<K> {
    client: Client,
    resource: ResourceRef,
    namespace: Option<String>,
    /// How lists and watches show the objects.
    accept: &'static str,
    kind: PhantomData<fn() -> K>,
}

/// A list as it is read: its items are left encoded.
#[derive(serde::Deserialize)]
struct RawList<'a> {
    metadata: RawListMeta,
    #[serde(borrow, default)]
    items: Vec<&'a RawValue>,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawListMeta {
    #[serde(default)]
    resource_version: String,
    #[serde(default, rename = "continue")]
    more: String,
}

impl<K> Api<K> {
    pub(crate) fn new(client: Client, resource: ResourceRef, namespace: Option<String>) -> Self {
        Self { client, resource, namespace, accept: WHOLE, kind: PhantomData }
    }

    /// The same objects, of which lists and watches show nothing but the metadata.
    #[must_use]
    pub fn metadata_only(self) -> Self {
        Self { accept: METADATA, ..self }
    }

    /// Where the objects are found.
    pub fn resource(&self) -> &ResourceRef {
        &self.resource
    }

    fn path(&self, name: &str, subresource: &str) -> String {
        self.resource.path(self.namespace.as_deref(), name, subresource)
    }

    async fn write<T: Serialize + ?Sized>(
        &self,
        method: Method,
        path: &str,
        body: &T,
    ) -> Result<Bytes, Error> {
        let body = serde_json::to_vec(body).map_err(Error::Decode)?;
        self.client.bytes(request(method, path, "application/json", body.into())?).await
    }

    /// The objects as they were sent, each in JSON, and the revision of the list.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn list_bytes(&self, list: &ListQuery) -> Result<(Vec<Bytes>, String), Error> {
        let limit = if list.limit == 0 { String::new() } else { list.limit.to_string() };
        let (mut items, mut more) = (Vec::new(), String::new());
        loop {
            let pairs = [
                ("labelSelector", &*list.labels),
                ("fieldSelector", &list.fields),
                ("limit", &limit),
                ("continue", &more),
            ];
            let path = self.path("", "") + &query(&pairs);
            let bytes = self.client.bytes(read_request(&path, self.accept)?).await?;
            let page: RawList<'_> = serde_json::from_slice(&bytes).map_err(Error::Decode)?;
            // Copied one by one: a slice would keep the whole answer as long as one object of it lives.
            items.extend(page.items.iter().map(|item| Bytes::copy_from_slice(item.get().as_bytes())));
            if page.metadata.more.is_empty() {
                return Ok((items, page.metadata.resource_version));
            }
            more = page.metadata.more;
        }
    }

    /// The changes of the objects from now or from a revision on.
    ///
    /// # Errors
    /// When the watch cannot begin.
    pub async fn watch(&self, watch: &WatchQuery) -> Result<Watch, Error> {
        let initial = if watch.initial { "true" } else { "" };
        let not_older = if watch.initial { "NotOlderThan" } else { "" };
        let pairs = [
            ("watch", "true"),
            ("allowWatchBookmarks", "true"),
            ("labelSelector", &watch.labels),
            ("fieldSelector", &watch.fields),
            ("resourceVersion", &watch.resource_version),
            ("sendInitialEvents", initial),
            ("resourceVersionMatch", not_older),
        ];
        let path = self.path("", "") + &query(&pairs);
        let response = self.client.send(read_request(&path, self.accept)?).await?;
        Ok(Watch::new(response.into_body()))
    }

    /// Deletes an object, or asks for its deletion.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn delete(&self, name: &str, options: &Delete) -> Result<(), Error> {
        self.write(Method::DELETE, &self.path(name, ""), &options.body()).await.map(|_| ())
    }

    /// Deletes all objects that match.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn delete_collection(&self, list: &ListQuery, options: &Delete) -> Result<(), Error> {
        let pairs = [("labelSelector", &*list.labels), ("fieldSelector", &list.fields)];
        let path = self.path("", "") + &query(&pairs);
        self.write(Method::DELETE, &path, &options.body()).await.map(|_| ())
    }

    /// Posts to a subresource: `binding`, `eviction`, `token`.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn post(&self, name: &str, subresource: &str, body: &Value) -> Result<Value, Error> {
        let bytes = self.write(Method::POST, &self.path(name, subresource), body).await?;
        serde_json::from_slice(&bytes).map_err(Error::Decode)
    }
}

impl<K: Serialize + DeserializeOwned> Api<K> {
    /// The object of that name.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn get(&self, name: &str) -> Result<K, Error> {
        let request = read_request(&self.path(name, ""), WHOLE)?;
        decode(&self.client.bytes(request).await?)
    }

    /// The objects that match, page by page until the end, and the revision of the list.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn list(&self, list: &ListQuery) -> Result<(Vec<K>, String), Error> {
        let (items, revision) = self.list_bytes(list).await?;
        Ok((items.iter().map(|item| decode(item)).collect::<Result<_, _>>()?, revision))
    }

    /// Creates an object.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn create(&self, object: &K) -> Result<K, Error> {
        decode(&self.write(Method::POST, &self.path("", ""), object).await?)
    }

    /// Replaces an object, if its revision is the one given.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn replace(&self, name: &str, object: &K) -> Result<K, Error> {
        decode(&self.write(Method::PUT, &self.path(name, ""), object).await?)
    }

    /// Replaces an object's status or another part of it.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn replace_part(&self, name: &str, subresource: &str, object: &K) -> Result<K, Error> {
        decode(&self.write(Method::PUT, &self.path(name, subresource), object).await?)
    }

    /// Changes an object, or with a subresource a part of it.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn patch(&self, name: &str, subresource: &str, patch: &Patch) -> Result<K, Error> {
        let (content_type, body) = patch.parts();
        let body = Bytes::from(body.to_string());
        let request = request(Method::PATCH, &self.path(name, subresource), content_type, body)?;
        decode(&self.client.bytes(request).await?)
    }
}

fn decode<K: DeserializeOwned>(bytes: &[u8]) -> Result<K, Error> {
    serde_json::from_slice(bytes).map_err(Error::Decode)
}
