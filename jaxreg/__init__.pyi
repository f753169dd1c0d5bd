from .config import METHODS as METHODS
from .config import Config as Config
from .config import NetworkConfig as NetworkConfig
from .config import RegistrationConfig as RegistrationConfig
from .engine.gauss_newton import refine as refine
from .geometry.volume import DisplacementField as DisplacementField
from .geometry.volume import Volume as Volume
from .io.images import read_displacement as read_displacement
from .io.images import read_image as read_image
from .io.series import read_series as read_series
from .network.weights import load_weights as load_weights
from .pipeline.registration import register as register
from .pipeline.registration import register_volumes as register_volumes
from .pipeline.result import Registration as Registration
from .pipeline.series import register_series as register_series
from .pipeline.series_result import SeriesRegistration as SeriesRegistration

__version__: str
