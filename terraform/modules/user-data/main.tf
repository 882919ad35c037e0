locals {
  infra = "${path.module}/../../../infra"

  # A role has the files of both and its own.
  scripts = {
    balancer = ["aws.py", "begin.sh", "fetch.py", "logs.py", "management_token.py", "settings.py", "source.py", "zram.sh"]
    agent = [
      "aws.py", "begin.sh", "fetch.py", "keep_failed.py", "logs.py", "management_token.py", "provide.py", "settings.py",
      "source.py", "store.py"
    ]
  }
  unit_folders = ["both", var.role]

  environment = merge(var.settings, { BOOT_ROLE = var.role })

  files = concat(
    [
      for script in local.scripts[var.role] :
      { path = "/usr/local/lib/paddock/${script}", mode = "0755", text = file("${local.infra}/boot/${script}") }
    ],
    flatten([
      for folder in local.unit_folders : [
        for unit in sort(fileset("${local.infra}/systemd/${folder}", "*")) :
        { path = "/etc/systemd/system/${unit}", mode = "0644", text = file("${local.infra}/systemd/${folder}/${unit}") }
      ]
    ]),
    [{
      path = "/etc/paddock/bootstrap.env"
      mode = "0644"
      text = join("", [for name in sort(keys(local.environment)) : "${name}=${local.environment[name]}\n"])
    }],
  )

  text = templatefile("${local.infra}/cloud-init/user-data.yaml.tftpl", {
    files  = local.files
    groups = var.role == "balancer" ? ["paddock-tls"] : []
  })
}
