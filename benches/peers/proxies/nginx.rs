//! nginx.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use super::{Behind, configured};

pub const PROGRAM: &str = "nginx";

/// In the foreground. It has no queue: with `max_conns` it would refuse what finds no room.
pub fn command(addr: SocketAddr, behind: Behind, folder: &Path) -> Command {
    assert!(!behind.queues, "nginx holds nothing");
    let [one, two] = behind.servers;
    let text = format!(
        "daemon off;
worker_processes 2;
pid {folder}/pid;
error_log {folder}/errors;
events {{ worker_connections 9000; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  keepalive_timeout 60s;
  keepalive_requests 1000000000;
  client_header_timeout 30s;
  client_body_timeout 60s;
  client_max_body_size 32m;
  upstream out {{
    least_conn;
    server {one};
    server {two};
    keepalive 64;
    keepalive_requests 1000000000;
  }}
  server {{
    listen {addr} reuseport;
    location / {{
      proxy_pass http://out;
      proxy_http_version 1.1;
      proxy_buffering off;
      proxy_connect_timeout 5s;
      proxy_read_timeout 600s;
      proxy_set_header Connection \"\";
      proxy_set_header Host $http_host;
      proxy_set_header X-Forwarded-For $remote_addr;
      proxy_set_header X-Forwarded-Proto http;
      proxy_set_header X-Request-Id $request_id;
      add_header X-Request-Id $request_id;
      add_header X-Queue-Ms 0;
      add_header X-Cold-Start false;
      add_header X-Agent $upstream_addr;
    }}
  }}
}}
",
        folder = folder.display()
    );
    let mut command = Command::new(PROGRAM);
    command.arg("-c").arg(configured(folder, &text));
    command
}
