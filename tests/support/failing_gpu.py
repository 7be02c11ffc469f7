"""A GPU that is there, works, and fails once it is told to; the CPU goes on."""

from types import SimpleNamespace

import onnxruntime

from ccm_runtime import inference


def have_failing_gpu(monkeypatch):
    """Have one; it fails from `fails = True` on, and the CPU with it if `alone`; it counts its `runs`."""
    real, gpu = onnxruntime.InferenceSession, SimpleNamespace(fails=False, alone=False, runs=0)

    class Session:
        def __init__(self, graph, options, providers):
            self._on_gpu = providers[0] == "CUDAExecutionProvider"
            if gpu.alone and not self._on_gpu:
                raise RuntimeError("no memory")
            self._session = real(graph, options, providers=["CPUExecutionProvider"])

        def __getattr__(self, name):
            return getattr(self._session, name)

        def get_providers(self):
            return ["CUDAExecutionProvider"] if self._on_gpu else ["CPUExecutionProvider"]

        def run(self, outputs, feed):
            gpu.runs += self._on_gpu
            if self._on_gpu and gpu.fails:
                raise RuntimeError("CUDA failure 2: out of memory ; hostname=robot-7")
            return self._session.run(outputs, feed)

    monkeypatch.setattr(inference, "_why_no_cuda", lambda _: None)
    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    return gpu
