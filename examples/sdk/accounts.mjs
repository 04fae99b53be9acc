// Throw-away accounts of the development genesis (see configuration/global/ns_genesis.toml). Never use them on a real chain.
import jssdk from "@hyperchain/jssdk";

const { Algo, ServiceManager, ProviderManager } = jssdk;
const accounts = ServiceManager.getAccountService(ProviderManager.emptyManager());

/** Funded account, secp256k1. */
export const ec = accounts.fromPrivateKey("67bf3d9573c76de902349f6001007abd340a7f93d27468b18be2565e8f1e4194", Algo.ECRAW);
/** Funded account, SM2. */
export const sm2 = accounts.fromPrivateKey("435150974b4eee33ccf7592b28fc0a8a8458be012ef8879a0a20f2fcb07f49fd", Algo.SMRAW);
/** Where the examples send value to. */
export const receiver = "0x786899089ea13ad565e7d0c510e8b44bdf789411";
