"""The contract: six stage interfaces, and the pipeline that composes strategies with `+`."""

from tokenprune.errors import StrategyError as StrategyError
from tokenprune.strategy.pipeline import Pipeline as Pipeline
from tokenprune.strategy.stages import HOSTS as HOSTS
from tokenprune.strategy.stages import REDUCERS as REDUCERS
from tokenprune.strategy.stages import REGISTERED as REGISTERED
from tokenprune.strategy.stages import Adjustable as Adjustable
from tokenprune.strategy.stages import Allocator as Allocator
from tokenprune.strategy.stages import Condenser as Condenser
from tokenprune.strategy.stages import DecodeStage as DecodeStage
from tokenprune.strategy.stages import Placed as Placed
from tokenprune.strategy.stages import PrefillStage as PrefillStage
from tokenprune.strategy.stages import Settled as Settled
from tokenprune.strategy.stages import Strategy as Strategy
from tokenprune.strategy.stages import TowerMerger as TowerMerger
from tokenprune.strategy.stages import TowerReader as TowerReader
from tokenprune.strategy.stages import TowerReuser as TowerReuser
from tokenprune.strategy.stages import TowerStage as TowerStage
from tokenprune.strategy.stages import VisionStage as VisionStage
from tokenprune.tokens import Extent as Extent
