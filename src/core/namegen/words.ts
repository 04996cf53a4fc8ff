/** Words for names: short, friendly, DNS-safe, none that could offend beside any other. */

export const ADJECTIVES: readonly string[] = `
  agile amber ample apt azure balmy bold brave breezy bright brisk calm candid cheery clear clever cosmic cozy
  crisp curious dapper deft eager early easy fair fast fleet fond frosty gentle glad golden grand handy happy
  hardy hazel honest humble jolly keen kind lively loyal lucid lucky lunar merry mellow mild misty modest neat
  nimble noble novel olive patient placid polite prime proud quick quiet rapid ready rosy rustic sandy sharp
  silver simple sleek smart smooth snowy snug solar solid spry steady still stout subtle sunny super sure swift
  tidy tender tough trusty upbeat vivid warm wise witty young zesty
`
  .trim()
  .split(/\s+/);

export const NOUNS: readonly string[] = `
  acorn alder alpaca anchor aspen atlas badger bamboo basil beacon bear beaver birch bison bobcat breeze brook
  canyon cedar cherry clover cloud comet condor copper coral cove crane creek cricket delta dolphin dove eagle
  ember falcon fern finch fjord forest fox garnet gecko geyser ginger glade grove harbor hare harvest hawk hazel
  heron hill ibis iris island ivy jade jasper kestrel kite koala lagoon lake lark laurel leaf lemur lily linden
  llama lotus lynx maple marble marlin marten meadow mesa meteor mint moose moss newt oak oasis ocelot opal
  orca orchid osprey otter owl panda pebble pelican pepper pine plover pond poplar prairie puffin quail quartz
  rabbit raven reef ridge river robin rowan sable sage salmon seal sequoia sparrow spruce squid stone stork
  summit swan teal thistle tiger trout tulip tundra valley violet walnut walrus willow wren yak zebra
`
  .trim()
  .split(/\s+/);
