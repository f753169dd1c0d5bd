"""Every setting: frozen dataclasses, checked at construction.

A misspelt key or an impossible value fails where the settings are made. A config file under
`configs/` is a Python file that sets `config = Config(...)`; a checkpoint keeps the same settings
as JSON beside the weights.
"""

from jaxreg.config.augmentation import AugmentationConfig as AugmentationConfig
from jaxreg.config.follow import FollowConfig as FollowConfig
from jaxreg.config.keypoints import KeypointConfig as KeypointConfig
from jaxreg.config.keypoints import SearchConfig as SearchConfig
from jaxreg.config.lungs import LungConfig as LungConfig
from jaxreg.config.network import NetworkConfig as NetworkConfig
from jaxreg.config.registration import METHODS as METHODS
from jaxreg.config.registration import CascadeConfig as CascadeConfig
from jaxreg.config.registration import CertificateConfig as CertificateConfig
from jaxreg.config.registration import LungGridConfig as LungGridConfig
from jaxreg.config.registration import OptimiserConfig as OptimiserConfig
from jaxreg.config.registration import PrealignmentConfig as PrealignmentConfig
from jaxreg.config.registration import RegistrationConfig as RegistrationConfig
from jaxreg.config.registration import method_name as method_name
from jaxreg.config.registration import with_method as with_method
from jaxreg.config.series import SeriesConfig as SeriesConfig
from jaxreg.config.text import from_json as from_json
from jaxreg.config.text import load_config as load_config
from jaxreg.config.text import network_from_dict as network_from_dict
from jaxreg.config.text import override as override
from jaxreg.config.text import read_registration_config as read_registration_config
from jaxreg.config.text import registration_from_dict as registration_from_dict
from jaxreg.config.text import to_json as to_json
from jaxreg.config.training import PER_LEVEL as PER_LEVEL
from jaxreg.config.training import Config as Config
from jaxreg.config.training import LossConfig as LossConfig
from jaxreg.config.training import SyntheticConfig as SyntheticConfig
from jaxreg.config.training import TrainingConfig as TrainingConfig
from jaxreg.config.training import with_levels as with_levels
from jaxreg.config.trust import TrustConfig as TrustConfig
from jaxreg.config.ventilation import VentilationConfig as VentilationConfig
