//! An HTTP client that records the status of the last response: a source of credentials returns the
//! same kind of error for a temporary failure and for a refusal.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient,
    SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;

/// The status of the last response; 0 as long as there is none. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct LastStatus(Arc<AtomicU16>);

impl LastStatus {
    /// Wraps a client so that the status of its last response is recorded.
    pub(crate) fn of(&self, client: SharedHttpClient) -> SharedHttpClient {
        SharedHttpClient::new(StatusProbe { inner: client, last: self.clone() })
    }

    /// Returns and clears the status of the last response; `None` if there was none since the last
    /// call.
    pub(crate) fn take(&self) -> Option<u16> {
        Some(self.0.swap(0, Ordering::Relaxed)).filter(|status| *status != 0)
    }

    fn set(&self, status: u16) {
        self.0.store(status, Ordering::Relaxed);
    }
}

#[derive(Debug)]
struct StatusProbe<T> {
    inner: T,
    last: LastStatus,
}

impl HttpClient for StatusProbe<SharedHttpClient> {
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        let inner = self.inner.http_connector(settings, components);
        SharedHttpConnector::new(StatusProbe { inner, last: self.last.clone() })
    }
}

impl HttpConnector for StatusProbe<SharedHttpConnector> {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        self.last.set(0);
        let (response, last) = (self.inner.call(request), self.last.clone());
        HttpConnectorFuture::new(async move {
            let response = response.await?;
            last.set(response.status().as_u16());
            Ok(response)
        })
    }
}
