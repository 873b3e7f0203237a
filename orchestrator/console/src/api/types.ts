// Short names for the shapes of the operator API. Everything comes from the generated schema; nothing is restated.
import type { components } from "./schema";

type Schemas = components["schemas"];

export type Account = Schemas["AccountView"];
export type Answer = Schemas["AnswerView"];
export type ApiToken = Schemas["ApiTokenView"];
export type About = Schemas["AboutView"];
export type Change = Schemas["ChangeView"];
export type Device = Schemas["DeviceView"];
export type EnrolToken = Schemas["EnrolTokenView"];
export type FirstPassword = Schemas["FirstPasswordView"];
export type Event_ = Schemas["EventView"];
export type Instance = Schemas["InstanceView"];
export type LiveValues = Schemas["LiveValues"];
export type Node_ = Schemas["NodeView"];
export type OwnToken = Schemas["TokenView"];
export type OwnAccount = Schemas["OwnAccountView"];
export type Parameter = Schemas["ParameterView"];
export type Parameters_ = Schemas["ParametersView"];
export type Problem = Schemas["ProblemDetails"];
export type Release = Schemas["ReleaseView"];
export type RoleBinding = Schemas["BindingView"];
export type Rollout = Schemas["RolloutView"];
export type RolloutPreview = Schemas["RolloutPreview"];
export type RolloutRequest = Schemas["RolloutRequest"];
export type Series = Schemas["SeriesView"];
export type Session = Schemas["SessionView"];
export type Site = Schemas["SiteView"];
export type SiteSummary = Schemas["SiteSummary"];
export type Sparkline = Schemas["SparklineView"];
export type State = Schemas["StateView"];
export type Stream = Schemas["StreamView"];
export type Value = Schemas["ValueView"];
export type Wave = Schemas["WaveView"];
