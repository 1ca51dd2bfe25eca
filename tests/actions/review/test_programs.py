"""Which commands start without a question, which are confirmed once, and which are confirmed each time."""

import shlex
from pathlib import Path

import pytest

from llmval_tui.actions.review.programs import Trust, trust_needed, trust_needed_by_script

READS = """
nvidia-smi
nvidia-smi -L
nvidia-smi -q -x
nvidia-smi -q -d ECC,POWER -i 0
nvidia-smi --query-gpu=index,name --format=csv,noheader
nvidia-smi topo -m
nvidia-smi nvlink -s
nvidia-smi nvlink -e
nvidia-smi mig -lgip
/usr/bin/nvidia-smi -q
lscpu
ls -l /dev/nvidia0
cat /proc/cmdline
df -h
uname -a
free -g
dcgmi discovery -l
dcgmi health -c -g 1
kubectl get pods -n gpu-operator
kubectl -n delete get pods
kubectl describe node n1
kubectl logs -n x pod/y
kubectl rollout status ds/x --timeout=300s
helm list -n x
sinfo -N
squeue -h -w n1
scontrol show node n1
ibstat
ethtool eth0
ethtool -i eth0
ethtool -S eth0
dmesg -T --level=err,crit
journalctl -k --since "2 hours ago" --no-pager
ipmitool sdr
sysctl vm.swappiness
dpkg -l
rpm -qa
pip list
docker ps
systemctl status nvidia-fabricmanager
numactl -H
find . -name "*.log"
python3 --version
env NCCL_DEBUG=INFO ls
nohup nice -n 5 timeout -s KILL 10 nvidia-smi -q
numactl -N 0 lscpu
bash -c "ls; uname -a"
lfs getstripe -d /mnt/x
date +%F
mlxconfig -d /dev/mst/x query
sort -t , -k2,2nr x
sort --key=2 --reverse x
journalctl -b -1 -u nvidia-fabricmanager --since=today --no-pager
ss -tlnp
ip -br addr
ip -s link show eth0
rdma link
ipmitool -I lanplus -H h sdr type fan
kubectl --namespace=x get pods -o wide
docker ps -a --format {{.Names}}
pip --disable-pip-version-check list --format=json
systemctl --no-pager status x
virsh list --all
"""
# Options that start another program, or write a file; also shortened, as GNU's programs and iproute2 take them.
HIDDEN = """
sort --buffer-size=1k --compress-prog=./evil big
sort --outp=.bashrc payload
sort -no .bashrc payload
journalctl --rota
ss --kil dst 192.0.2.1
virsh --connect=qemu+ext:///system?command=./evil list
pip --python=./evil list
pip list --log=.bashrc
docker --config=./evil info
docker info --config=./evil
podman --runtime=./evil info
podman info --runtime=./evil
ipmitool sdr dump .bashrc
ipmitool sdr fill sensors
ibnetdiscover --cache=.bashrc
kubectl --profile-output=.bashrc --profile=cpu get pods
kubectl get -k ./evil
kubectl --kuberc=./evil get pods
rpm -qp evil.rpm --queryformat=%{summary:expand}
apt list -o=Apt::Pager=./evil
ip -br addr del 192.0.2.1/24 dev eth0
rdma link del rxe0
env NCCL_CONF_FILE=./evil.conf ls
env NCCL_DEBUG_FILE=.bashrc ls
env OMP_TOOL_LIBRARIES=./evil.so ls
env CUDA_HOME=./evil ls
"""
CONFIRMED_ONCE = """
make test
pytest -q
python3 x.py
python -c "import vllm; print(vllm.__version__)"
./nvidia-smi -q
scripts/ls
../bin/cat x
sudo ls
/usr/bin/sudo ls
sudo nvidia-smi -q
env PATH=./bin ls
env LD_PRELOAD=./x.so ls
env KUBECONFIG=./x kubectl get pods
bash setup.sh
bash -c "ls > /dev/null"
bash -c "ls > etc/x"
bash -c "cat $(whoami)"
bash -c "PATH=. ls"
xargs -n1 ls
ssh node1 nvidia-smi
docker run --rm -it ubuntu ls
srun -N1 nvidia-smi
mpirun -np 2 ./all_reduce_perf
kubectl exec pod -- nvidia-smi
kubectl get pods --kubeconfig ./x
nvidia-smi -q -f /etc/x
nvidia-smi --filename=/etc/x -q
dcgmi diag -r 3
dcgmi health -s a
sort -o /etc/x y
git status
curl -fsS http://localhost:8000/health
vllm serve m
fio --name=x
watch nvidia-smi
someunknowntool --version
"""
EACH_TIME = r"""
rm -rf build
/bin/rm x
\rm x
dd if=/dev/zero of=/dev/sda
mkfs.ext4 /dev/sda
reboot
shutdown -h now
kill 1
pkill python
scancel 3
nvidia-smi -r
nvidia-smi --gpu-reset -i 3
nvidia-smi -i 0 -pl 300
nvidia-smi -lgc 1000,1200
nvidia-smi -pm 1
nvidia-smi -mig 1
nvidia-smi mig -cgi 9 -C
nvidia-smi --compute-mode=3
nvidia-smi drain -p 0 -m 1
amd-smi reset -G
amd-smi set --gpu 0 --power-cap 200
systemctl stop x
systemctl --user restart x
scontrol update nodename=n1 state=drain
kubectl delete pod x
kubectl -n x drain n1
kubectl apply -f x
kubectl rollout restart ds/x
kubectl label node --all a=b
helm upgrade --install x
git push origin v1
git -C x push
pip install x
python -m pip install x
apt-get update
apt install x
dnf -y update
conda install x
uv pip install x
npm publish
docker rm -f x
dpkg -i x.deb
rpm -e x
ipmitool chassis power cycle
sysctl -w a=1
sysctl -p
ethtool -s eth0 speed 100
ip link set eth0 down
dmesg -C
date -s 10:00
hostname evil
find . -delete
find . -exec rm {} +
rsync -a --delete a b
curl -X DELETE http://x
sudo rm x
/usr/bin/sudo -u root reboot
env A=1 rm x
env -S "rm -rf x"
nohup nice -n 5 timeout -s KILL 10 rm x
bash -c "rm x"
bash -lc "cd /; rm x"
sh -c "ls $(rm x)"
bash -c "for i in 1 2; do kill $i; done"
bash -c "ls && rm x"
bash -c "ls > /etc/passwd"
bash -c "cat x > /dev/sda"
bash -c "echo 1 >/sys/x/reset"
xargs rm
xargs -I{} bash -c "rm {}"
ssh node1 reboot
ssh node1 "sudo systemctl restart x"
docker run ubuntu sh -c "rm -rf /x"
kubectl exec pod -- rm -rf x
srun bash -c "kill 1"
mpirun -np 2 rm x
torchrun --no-python rm x
busybox rm x
su - root -c "rm x"
perl -e "unlink x"
python -c "import shutil; shutil.rmtree('/x')"
sudo sudo sudo sudo sudo sudo sudo sudo sudo sudo rm
parallel rm
flock /tmp/l rm x
chroot /mnt rm x
"""
CASES = [
    (line, trust)
    for lines, trust in ((READS, Trust.NONE), (CONFIRMED_ONCE, Trust.ONCE), (EACH_TIME, Trust.EACH_TIME))
    for line in lines.strip().splitlines()
]


@pytest.mark.parametrize(("line", "trust"), CASES, ids=[line for line, _ in CASES])
def test_the_trust_that_a_command_needs(tmp_path: Path, line: str, trust: Trust):
    assert trust_needed(shlex.split(line), tmp_path).trust is trust


@pytest.mark.parametrize("line", HIDDEN.strip().splitlines())
def test_an_option_that_starts_a_program_or_writes_a_file_asks(tmp_path: Path, line: str):
    assert trust_needed(shlex.split(line), tmp_path).trust >= Trust.ONCE


def test_a_program_of_the_workspace_is_not_the_diagnostic_of_that_name(tmp_path: Path, monkeypatch):
    fake = tmp_path / "bin" / "nvidia-smi"
    fake.parent.mkdir()
    fake.write_text("#!/bin/sh\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{fake.parent}:/usr/bin:/bin")
    assert trust_needed(["nvidia-smi", "-q"], tmp_path).trust is Trust.ONCE
    assert trust_needed([str(fake), "-q"], tmp_path).trust is Trust.ONCE


@pytest.mark.parametrize(
    ("code", "trust"),
    [
        ("set -e\nnvidia-smi -q\n", Trust.ONCE),
        ("ls |\n  grep x\n", Trust.ONCE),
        ("cd build\nrm -rf *\n", Trust.EACH_TIME),
        ("if true; then\n  sudo reboot\nfi\n", Trust.EACH_TIME),
        ("X=1 kubectl delete pod x\n", Trust.EACH_TIME),
        ("echo 'open\nrm -rf x\n", Trust.EACH_TIME),
        ("$TOOL x\n", Trust.ONCE),
        ("cat <<EOF\nhello\nEOF\n", Trust.ONCE),
    ],
)
def test_the_trust_that_a_script_needs(tmp_path: Path, code: str, trust: Trust):
    assert trust_needed_by_script(code, tmp_path).trust is trust
