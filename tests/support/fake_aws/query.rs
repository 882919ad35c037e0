//! The query protocol: parameters of a form in, XML out.
//! ("Smithy, AWS query protocol"; "EC2 Auto Scaling API, Common Errors")

use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;

/// An error as AWS tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    pub status: u16,
    pub code: String,
    pub message: String,
}

impl ApiError {
    pub fn new(status: u16, code: &str, message: &str) -> Self {
        Self { status, code: code.to_owned(), message: message.to_owned() }
    }

    /// The caller's fault.
    pub fn sender(code: &str, message: &str) -> Self {
        Self::new(400, code, message)
    }

    pub fn validation(message: &str) -> Self {
        Self::sender("ValidationError", message)
    }

    /// As in public reports.
    pub fn no_instance(id: &str) -> Self {
        Self::validation(&format!("Instance Id not found - No managed instance found for instance ID: {id}"))
    }

    /// The first half as in public reports, the second *assumed*.
    pub fn no_group(name: &str) -> Self {
        Self::validation(&format!("AutoScalingGroup name not found - AutoScalingGroup {name} not found"))
    }

    pub fn to_xml(&self, request_id: &str) -> String {
        let kind = if self.status < 500 { "Sender" } else { "Receiver" };
        let mut xml = Xml::default();
        xml.root("ErrorResponse", |xml| {
            xml.within("Error", |xml| {
                xml.text("Type", kind);
                xml.text("Code", &self.code);
                xml.text("Message", &self.message);
            });
            xml.text("RequestId", request_id);
        });
        xml.0
    }
}

/// The parameters of a call, as they came.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Parameters(pub BTreeMap<String, String>);

impl Parameters {
    pub fn parse(body: &[u8]) -> Self {
        Self(form_urlencoded::parse(body).into_owned().collect())
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// The message is *assumed* from how AWS complains elsewhere.
    pub fn required(&self, name: &str) -> Result<&str, ApiError> {
        self.get(name).ok_or_else(|| {
            ApiError::validation(&format!(
                "1 validation error detected: Value null at '{name}' failed to satisfy constraint: Member must not be null"
            ))
        })
    }

    pub fn parsed<T: FromStr>(&self, name: &str) -> Result<Option<T>, ApiError> {
        let parse = |text: &str| {
            let malformed =
                || ApiError::sender("MalformedInput", &format!("{name} is not understood: {text}"));
            text.parse().map_err(|_| malformed())
        };
        self.get(name).map(parse).transpose()
    }

    /// The members of a list.
    pub fn list(&self, name: &str) -> Vec<String> {
        (1..).map_while(|number| self.get(&format!("{name}.member.{number}"))).map(str::to_owned).collect()
    }
}

/// XML that is being written.
#[derive(Debug, Default)]
pub struct Xml(String);

impl Xml {
    /// A whole answer to `action`.
    pub fn response(action: &str, request_id: &str, result: &Self) -> String {
        let mut xml = Self::default();
        xml.root(&format!("{action}Response"), |xml| {
            xml.within(&format!("{action}Result"), |xml| xml.0 += &result.0);
            xml.within("ResponseMetadata", |xml| xml.text("RequestId", request_id));
        });
        xml.0
    }

    fn root(&mut self, name: &str, content: impl FnOnce(&mut Self)) {
        self.0 += &format!("<{name} xmlns=\"http://autoscaling.amazonaws.com/doc/2011-01-01/\">");
        content(self);
        self.0 += &format!("</{name}>");
    }

    pub fn within(&mut self, name: &str, content: impl FnOnce(&mut Self)) {
        self.0 += &format!("<{name}>");
        content(self);
        self.0 += &format!("</{name}>");
    }

    pub fn text(&mut self, name: &str, value: impl Display) {
        let value = value.to_string().replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        self.within(name, |xml| xml.0 += &value);
    }

    /// Nothing if there is nothing.
    pub fn optional(&mut self, name: &str, value: Option<impl Display>) {
        if let Some(value) = value {
            self.text(name, value);
        }
    }

    pub fn list<T>(
        &mut self,
        name: &str,
        items: impl IntoIterator<Item = T>,
        mut item: impl FnMut(&mut Self, T),
    ) {
        self.within(name, |xml| {
            for one in items {
                xml.within("member", |xml| item(xml, one));
            }
        });
    }

    pub fn texts(&mut self, name: &str, items: impl IntoIterator<Item = impl Display>) {
        self.within(name, |xml| {
            for one in items {
                xml.text("member", one);
            }
        });
    }
}
