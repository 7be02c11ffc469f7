"""The on-policy methods by name. A method that is listed in `methods.METHODS` as on-policy has its row here."""

from ccm_training.methods import MethodName
from ccm_training.onpolicy.gradient_methods import Maml, ProMp
from ccm_training.onpolicy.rl2 import Rl2
from ccm_training.onpolicy.seam import OnPolicyMethod
from ccm_training.onpolicy.varibad import VariBad

ON_POLICY: dict[MethodName, OnPolicyMethod] = {"rl2": Rl2(), "varibad": VariBad(), "maml": Maml(), "promp": ProMp()}
