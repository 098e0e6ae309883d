//! An HTTP client with bounded response bodies: the SDK keeps a whole body in memory.

use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient,
    SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use http_body_util::Limited;

/// Longest body accepted, in bytes. Two ICE servers take 2 kB, a role's credentials 4 kB.
const BODY_BYTES_MAX: usize = 256 * 1024;

/// Wraps a client so that a response body longer than [`BODY_BYTES_MAX`] fails.
pub(crate) fn bounded(client: SharedHttpClient) -> SharedHttpClient {
    SharedHttpClient::new(BoundedBodies(client))
}

#[derive(Debug)]
struct BoundedBodies<T>(T);

impl HttpClient for BoundedBodies<SharedHttpClient> {
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        SharedHttpConnector::new(BoundedBodies(self.0.http_connector(settings, components)))
    }
}

impl HttpConnector for BoundedBodies<SharedHttpConnector> {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let response = self.0.call(request);
        HttpConnectorFuture::new(async move {
            let mut response = response.await?;
            let body = std::mem::replace(response.body_mut(), SdkBody::taken());
            *response.body_mut() = SdkBody::from_body_1_x(Limited::new(body, BODY_BYTES_MAX));
            Ok(response)
        })
    }
}
