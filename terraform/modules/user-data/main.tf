locals {
  infra = "${path.module}/../../../infra"

  # In the user data: what leads to all the rest, and what must work if the rest does not come.
  first_scripts = {
    balancer = ["aws.py", "begin.py", "files.py", "logs.py", "source.py"]
    agent    = ["aws.py", "begin.py", "files.py", "keep_failed.py", "logs.py", "source.py"]
  }[var.role]
  first_units = {
    balancer = ["balancer/paddock-begin.service", "balancer/paddock-refresh.service", "both/paddock-logs.service"]
    agent    = ["agent/paddock-begin.service", "agent/paddock-failed.service", "both/paddock-logs.service"]
  }[var.role]

  # In the bucket: these, and the above once more, so that a new version reaches an instance at its next boot.
  scripts = {
    balancer = ["environment.py", "fetch.py", "management_token.py", "parameters.py", "settings.py", "step.py", "zram.sh"]
    agent    = ["environment.py", "fetch.py", "management_token.py", "parameters.py", "provide.py", "settings.py", "step.py", "store.py"]
  }[var.role]
  units = concat(
    [for unit in sort(fileset("${local.infra}/systemd", "both/*")) : unit],
    [for unit in sort(fileset("${local.infra}/systemd", "${var.role}/*")) : unit],
  )

  environment = merge(var.settings, { BOOT_ROLE = var.role })

  all = {
    for name in concat(local.first_scripts, local.scripts, local.units) : name => {
      path = strcontains(name, "/") ? "/etc/systemd/system/${basename(name)}" : "/usr/local/lib/paddock/${name}"
      mode = strcontains(name, "/") ? "0644" : "0755"
      text = file(strcontains(name, "/") ? "${local.infra}/systemd/${name}" : "${local.infra}/boot/${name}")
    }
  }

  # Read by the balancer's settings.py.
  cloudwatch_agent = [for name in ["amazon-cloudwatch-agent.json"] : {
    path = "/usr/local/lib/paddock/${name}"
    mode = "0644"
    text = file("${local.infra}/cloudwatch-agent/${name}")
  } if var.role == "balancer"]

  bootstrap = {
    path = "/etc/paddock/bootstrap.env"
    mode = "0644"
    text = join("", [for name in sort(keys(local.environment)) : "${name}=${local.environment[name]}\n"])
  }

  text = templatefile("${local.infra}/cloud-init/user-data.yaml.tftpl", {
    files  = concat([local.bootstrap], [for name in concat(local.first_scripts, local.first_units) : local.all[name]])
    masked = var.role == "agent" ? ["apt-daily.timer", "apt-daily-upgrade.timer", "unattended-upgrades.service"] : []
    groups = var.role == "balancer" ? ["paddock-tls"] : []
    start  = "systemctl daemon-reload && systemctl enable --now --no-block paddock-logs.service paddock-begin.service"
  })

  # Apart, so that a failing condition shows a number and not all the text.
  base64_bytes = length(base64gzip(local.text))
}
