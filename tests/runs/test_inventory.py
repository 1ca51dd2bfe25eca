"""What is recorded of the machine."""

from llmval_tui.runs.inventory import NOT_RECORDED, recorded_environment


def test_no_secret_gets_into_the_record() -> None:
    environment = {
        "NVIDIA_API_KEY": "nvapi-1",
        "TORCH_HUB_TOKEN": "t",
        "HF_TOKEN": "hf-1",
        "NCCL_P2P_LEVEL": "NVL",
        "CUDA_VISIBLE_DEVICES": "0,1",
    }
    assert recorded_environment(environment) == {
        "CUDA_VISIBLE_DEVICES": "0,1",
        "NCCL_P2P_LEVEL": "NVL",
        "NVIDIA_API_KEY": NOT_RECORDED,
        "TORCH_HUB_TOKEN": NOT_RECORDED,
    }
