"""Names that a reader of a checklist knows to be programs.

They only help to tell a command from other code. `review/` decides whether a program may start without a question.
"""

_KNOWN = """
    accelerate aide aiperf all_gather_perf all_reduce_perf alltoall_perf amd-smi ansible ansible-playbook apk
    apptainer apt apt-get argocd aria2c arp arping auditctl ausearch awk aws az bandit bandwidthtest bandwidthTest
    barman bash bazel beegfs-ctl beegfs-fsck birdc blkid bonnie++ brctl brew bridge broadcast_perf btrfs buildah
    bundle bw cargo cat ceph certbot chcon checkov chgrp chkrootkit chmod chown chronyc chsh clang clickhouse-client
    clush cma_roce_mode cmake cmp composer compute-sanitizer conda conftest cosign cp cpupower cqlsh crictl
    cryptsetup cscli ctest ctr cuda-memcheck curl cut date dbench dcgmi dcgmproftester12 dd debsums deepspeed
    deviceQuery devlink df diff dig dirname dmesg dmidecode dmsetup dnf docker docker-compose dotnet dpkg du e2fsck
    echo edquota efibootmgr elbencho env etcdctl ethtool evalscope exportfs fail2ban-client fdisk file find findmnt
    fio firewall-cmd flake8 flux free fsck fuser gcc gcloud genai-perf getenforce getent getfacl gh git gitleaks go
    gpg gpustat gradle grep groupadd growpart grpcurl grype guidellm gunicorn gzip hadolint hdparm head helm hf host
    hostname hostnamectl htop huggingface-cli hwloc-ls hydra ib_read_bw ib_write_bw ibdev2netdev ibdiagnet
    iblinkinfo ibnetdiscover ibping ibqueryerrors ibstat ibstatus ibv_devinfo id ifconfig ior iostat ip ipcs iperf
    iperf3 ipmitool ipset iptables iptables-save iscsiadm istioctl java journalctl jq juicefs k6 k9s kafka-topics
    kafka-topics.sh kexec kind kinit klist kube-bench kubeadm kubeconform kubectl kubelet kubesec kubeval kustomize
    last launchctl lctl ldconfig ldd less lfs lfs_migrate lldpcli lldpctl lm-eval lm_eval lmdeploy ln lnetctl locust
    logger loginctl losetup ls lsattr lsblk lscpu lshw lsmem lsmod lsof lspci lsscsi lsusb lvcreate lvm lvs lxc
    lynis make mamba md5sum mdadm mdtest megacli meson micromamba minikube mkdir mkfs mkfs.ext4 mkfs.xfs mlcr
    mlnx_qos mlperf mlxconfig mlxfwmanager mlxlink mlxreg mmgetstate mmhealth mmlscluster mmlsfs modinfo modprobe
    mokutil mongosh mount mpiexec mpirun mpstat mst mtr multipath multipathd mv mvn mypy mysql mysqladmin mysqldump
    nc ncat ncu netplan netstat newman nfsstat nft nginx nikto ninja nmap nmcli nodetool nomad nox npm npx nslookup
    nsys ntpq nuclei nproc numactl numastat nuttcp nv-fabricmanager nvbandwidth nvcc nvflash nvidia-bug-report.sh
    nvidia-ctk nvidia-cuda-mps-control nvidia-persistenced nvidia-settings nvidia-smi nvme nvsm nvtop oc ofed_info
    ollama opa opatch opensm openssl oscap p2pBandwidthLatencyTest pacman parted partprobe passwd patch patronictl
    pdsh perf perfquery perftest pg_basebackup pg_dump pg_dumpall pg_isready pg_restore pgbackrest pgbench pidstat
    ping pip pip-audit pip3 pipx pkill pnpm podman poetry postqueue pre-commit printenv printf promtool ps psql pssh
    pulumi pushd pv pvcreate pvs py.test pylint pyright pytest python python2 python3 qperf quota rabbitmqctl rados
    ras-mc-ctl rasdaemon rbd rclone rdma readlink reboot redis-benchmark redis-cli reduce_scatter_perf repmgr
    repquota resize2fs rkhunter rm rmmod rocm-smi rocminfo rpm rsync ruff s3cmd sacct sacctmgr safety salloc sar sb
    sbatch scancel scontrol scp screen sdiag sdparm sed semanage semgrep sendrecv_perf sensors seq service sestatus
    setenforce setfacl sgdisk sginfo sglang sh sha256sum shasum shellcheck show_gids showmount shutdown sinfo
    singularity skopeo sleep smartctl sminfo snap socat sort spack spark-submit sprio sqlite3 sqlplus squeue srun ss
    ssacli ssh ssh-audit ssh-copy-id ssh-keygen ssh-keyscan sshare sshd stat storcli storcli64 strace stress
    stress-ng su sudo sudoedit superbench swapoff swapon syft sync sysbench sysctl systemctl systemd-analyze tail
    tar targetcli taskset tc tcpdump teamdctl tee terraform terragrunt test testssl.sh tfsec time timedatectl
    timeout tmux top torchrun touch tox tr tracepath traceroute tree trivy trtexec trtllm-bench trtllm-serve
    truncate tsc tune2fs twine ufw umount uname uniq unzip update-grub update-initramfs uptime useradd usermod uv
    uvx vault velero vgs virsh virtualenv vllm vmstat vtysh w warp watch wc weka wget which who whoami wipefs wrk
    dynamo gpu-burn gpu_burn hey likwid-bench llama-bench llama-cli llama-server mlc_llm oha osu_allreduce osu_bw
    osu_latency perf_analyzer rvs text-generation-benchmark text-generation-launcher tritonserver trtllm-build vegeta
    wrk2 xhpl
    xargs xfs_db xfs_growfs xfs_info xfs_repair xtrabackup yamllint yarn yq yum zcat zfs zgrep zip zpool zypper
"""
KNOWN = frozenset(_KNOWN.split())

# Programs that say something useful without an argument, so that their bare name is a command.
_ALONE = """
    aide amd-smi arch bandwidthTest blkid chkrootkit date deviceQuery df dmesg dmidecode env findmnt free getenforce
    gpustat hostname hostnamectl ibdev2netdev ibdiagnet iblinkinfo
    ibnetdiscover ibqueryerrors ibstat ibstatus ibv_devinfo id
    ifconfig iostat last lsblk lscpu lsmem lsmod lspci lsscsi lsusb lvs lynis mount mpstat netstat nox nvbandwidth
    nproc nvidia-bug-report.sh nvidia-smi ofed_info p2pBandwidthLatencyTest pg_isready printenv pvs pytest reboot
    rocm-bandwidth-test rocm-smi rocminfo sdiag sensors sestatus show_gids sinfo sminfo squeue timedatectl tox uname
    uptime vgs vmstat w who whoami
"""
ALONE = frozenset(_ALONE.split())

# Second words that are typical for a command: `acmectl status`.
_SUBCOMMANDS = """
    apply build check clean config create delete deploy describe diag diagnose doctor drain export get health import
    info init inspect install lint list log login logs ls migrate ping ps pull push query remove reset restart
    restore run scan show start stat stats status stop sync test top uninstall up update upgrade validate verify
    version
"""
SUBCOMMANDS = frozenset(_SUBCOMMANDS.split())

# Commands that do not end by themselves or wait for a person. A flag may stand anywhere in the command; if one of the
# words after the bar is there, the command ends.
_ENDLESS = """
    vllm serve
    sglang serve
    python -m sglang.launch_server
    python -m vllm.entrypoints
    trtllm-serve
    tritonserver
    ollama serve
    lmdeploy serve
    text-generation-launcher
    mlc_llm serve
    llama-server
    python -m http.server
    uvicorn
    gunicorn
    flask run
    jupyter
    tensorboard
    mlflow server
    mlflow ui
    kubectl port-forward
    kubectl proxy
    kubectl edit
    kubectl attach
    kubectl -w
    kubectl --watch
    kubectl logs -f
    kubectl logs --follow
    oc -w
    docker logs -f
    docker compose logs -f
    podman logs -f
    iperf -s
    iperf3 -s | -1 --one-off
    redis-server
    mysqld
    postgres
    nginx | -t -T -s -v -V
    dockerd
    etcd
    minio server
    prometheus
    watch
    top | -b -n
    htop
    nvtop
    gpustat -i
    gpustat --watch
    nvidia-smi dmon | -c
    nvidia-smi pmon | -c
    nvidia-smi -l
    dcgmi dmon | -c
    hypercorn
    streamlit run
    gradio
    mkdocs serve
    http-server
    next dev
    vite | build optimize --version
    nodemon
    wrangler dev
    wrangler tail
    npm start
    npm run dev
    npm run start
    npm run serve
    npm run watch
    yarn start
    yarn dev
    yarn serve
    yarn watch
    pnpm start
    pnpm dev
    pnpm serve
    minikube tunnel
    docker compose up | -d --detach --wait
    docker-compose up | -d --detach --wait
    python -m uvicorn
    python -m flask
    python -m streamlit
    tail -f
    tail -F
    tail --follow
    journalctl -f
    journalctl --follow
    dmesg -w
    dmesg --follow
    tcpdump | -c
    vi
    vim
    nano
    emacs
    less
    more
    man
    visudo
    crontab -e
    sudoedit
    screen
    tmux attach
    k9s
    ray start --block
    celery worker
    locust | --headless
    nc -l
    ncat -l
    socat
    systemd-cgtop
    iotop | -b
    bash | -c
    sh | -c
    zsh
    su
"""
ENDLESS = tuple(line.strip() for line in _ENDLESS.strip().splitlines())
